"""The controller's settings: frozen, parsed once from flags and `SLUICE_*` variables."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import click

from controller.resources.reading.object_ref import ObjectRef
from controller.translate import TranslateSettings
from controller.translate.ingress_class import CONTROLLER


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator of this controller decided."""

    default_certificate: str = ""
    """``namespace/name`` of a TLS Secret; empty: the proxy makes one."""
    host_ownership: Literal["shared", "namespace"] = "shared"
    allow_external_name: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What is decided about a cluster, beside `Settings`."""

    control_socket: str
    """Path of the unix socket where the proxy asks."""
    health: str = ":9091"
    """Where /healthz is served, as host:port; a port of 0: the system picks one."""
    watch_namespaces: tuple[str, ...] = ()
    """Empty: all."""
    watch_namespace_selector: str = ""
    """Labels of the namespaces whose objects are served, as kubectl takes a selector; empty: all of those above."""
    publish_service: str = ""
    """``namespace/name`` of the Service whose addresses go into the status of Ingresses."""
    publish_address: tuple[str, ...] = ()
    """Addresses or host names for the status of Ingresses, instead of a Service's."""
    publish_nodes: str = ""
    """Labels of the pods whose nodes' addresses go there, ``name=value,..``, instead of a Service's."""
    controller_name: str = CONTROLLER
    lease: str = "sluice-leader"
    proxy_uid: int | None = None
    """User of the proxy's container; None: our own."""
    update_status: bool = True
    pod_grace: bool = False
    """Read pods that terminate: their sockets are closed over what is left of their grace period."""
    grace: float = 58.0
    """Seconds after SIGTERM until the controller ends although the proxy is still connected."""
    pod_name: str = ""
    pod_namespace: str = ""
    """Empty: there is no pod, and so no Lease: nothing is written."""
    pod_addresses: tuple[str, ...] = ()


_LABEL = r"(?:[a-z0-9.-]+/)?[A-Za-z0-9][A-Za-z0-9_.-]*=[A-Za-z0-9_.-]*"
_LABELS = re.compile(f"{_LABEL}(?:,{_LABEL})*")
_KEY = r"(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_SET = rf"\s+(?:not)?in\s*\(\s*{_VALUE}(?:\s*,\s*{_VALUE})*\s*\)"
_REQUIREMENT = rf"\s*(?:!\s*{_KEY}|{_KEY}(?:\s*(?:==?|!=)\s*{_VALUE}|{_SET})?)\s*"
_SELECTOR = re.compile(f"{_REQUIREMENT}(?:,{_REQUIREMENT})*")
"""The grammar of Kubernetes' label selectors: equality, sets, existence."""


def _names(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part for part in value.replace(",", " ").split() if part)


def _namespaced(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if value and (value.count("/") != 1 or value.startswith("/") or value.endswith("/")):
        raise click.BadParameter(f"{value!r} was found, NAMESPACE/NAME would be accepted.")
    return value


def _labels(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if value and _LABELS.fullmatch(value) is None:
        raise click.BadParameter(f"{value!r} was found, LABEL=VALUE or several of them with commas between would be accepted.")
    return value


def _selector(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if value.strip() and _SELECTOR.fullmatch(value) is None:
        raise click.BadParameter(
            f"{value!r} was found, a selector of labels as kubectl takes it, such as team=shop or 'env in (test,prod)', "
            "would be accepted."
        )
    return value.strip()


def _health(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise click.BadParameter(f"{value!r} was found, HOST:PORT, :PORT or [V6]:PORT would be accepted.")
    return value


def _option(flag: str, variable: str, text: str, **more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make an option that a variable sets too; its help shows both and the default."""
    shown = {"show_default": True, "show_envvar": True, **more}
    return click.option(flag, envvar=variable, help=text, **shown)


_OPTIONS = (
    _option(
        "--default-certificate",
        "SLUICE_DEFAULT_CERTIFICATE",
        "TLS Secret for hosts that have none of their own.",
        default="",
        metavar="NAMESPACE/NAME",
        callback=_namespaced,
        show_default="one made at start",
    ),
    _option(
        "--host-ownership",
        "SLUICE_HOST_OWNERSHIP",
        "Whether namespaces share hosts, or the first one to claim a host keeps it.",
        type=click.Choice(["shared", "namespace"]),
        default="shared",
    ),
    _option(
        "--allow-external-name/--no-allow-external-name",
        "SLUICE_ALLOW_EXTERNAL_NAME",
        "Serve Services of type ExternalName: lets objects reach any name that the proxy can resolve.",
        default=False,
    ),
    _option(
        "--log-level",
        "SLUICE_LOG_LEVEL",
        "Least severe lines that are logged.",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
    ),
)


_CLUSTER_OPTIONS = (
    _option(
        "--control-socket",
        "SLUICE_CONTROL_SOCKET",
        "Unix socket where the proxy asks for its configuration.",
        required=True,
        metavar="PATH",
    ),
    _option(
        "--health",
        "SLUICE_HEALTH",
        "Where /healthz is served; it fails when a watch has been silent for too long.",
        default=":9091",
        metavar="HOST:PORT",
        callback=_health,
    ),
    _option(
        "--watch-namespaces",
        "SLUICE_WATCH_NAMESPACES",
        "Namespaces whose objects are read.",
        default="",
        metavar="A,B",
        callback=_names,
        show_default="all",
    ),
    _option(
        "--watch-namespace-selector",
        "SLUICE_WATCH_NAMESPACE_SELECTOR",
        "Labels of the namespaces whose objects are served, instead of their names; followed as labels come and go.",
        default="",
        metavar="SELECTOR",
        callback=_selector,
        show_default="all",
    ),
    _option(
        "--publish-service",
        "SLUICE_PUBLISH_SERVICE",
        "Service whose addresses are written into the status of Ingresses.",
        default="",
        metavar="NAMESPACE/NAME",
        callback=_namespaced,
    ),
    _option(
        "--publish-address",
        "SLUICE_PUBLISH_ADDRESS",
        "IP addresses or host names for the status of Ingresses, instead of a Service's.",
        default="",
        metavar="ADDRESS,..",
        callback=_names,
    ),
    _option(
        "--publish-nodes",
        "SLUICE_PUBLISH_NODES",
        "Labels of pods of this pod's namespace whose nodes' addresses are written there, instead of a Service's.",
        default="",
        metavar="LABEL=VALUE,..",
        callback=_labels,
    ),
    _option(
        "--controller-name",
        "SLUICE_CONTROLLER_NAME",
        "IngressClasses that name this controller are ours.",
        default=CONTROLLER,
    ),
    _option(
        "--lease",
        "SLUICE_LEASE",
        "Lease in the pod's namespace that decides which replica writes statuses and Events.",
        default="sluice-leader",
    ),
    _option(
        "--proxy-uid",
        "SLUICE_PROXY_UID",
        "User of the proxy's container, who may use the control socket.",
        type=click.IntRange(0),
        default=None,
        show_default="our own",
    ),
    _option(
        "--update-status/--no-update-status",
        "SLUICE_UPDATE_STATUS",
        "Write conditions, load balancer addresses and Events. Needs POD_NAME and POD_NAMESPACE.",
        default=True,
    ),
    _option(
        "--pod-grace/--no-pod-grace",
        "SLUICE_POD_GRACE",
        "Close sockets of pods that terminate over what is left of their grace period. Needs the right to get pods.",
        default=False,
    ),
    _option(
        "--grace",
        "SLUICE_CONTROLLER_GRACE",
        "When to end after SIGTERM although the proxy is still connected.",
        type=click.FloatRange(0),
        default=58.0,
        metavar="SECONDS",
    ),
    _option("--pod-name", "POD_NAME", "Name of this pod.", default=""),
    _option("--pod-namespace", "POD_NAMESPACE", "Namespace of this pod.", default=""),
    _option(
        "--pod-addresses",
        "POD_IP",
        "Addresses of this pod: endpoints there would lead back to the proxy, and are refused.",
        default="",
        metavar="ADDRESS,..",
        callback=_names,
    ),
)


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every setting of the controller."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every setting about a cluster."""
    for option in reversed(_CLUSTER_OPTIONS):
        command = option(command)
    return command


def translate_settings(
    settings: Settings, *, standalone: bool, controller_name: str = CONTROLLER, own_addresses: tuple[str, ...] = ()
) -> TranslateSettings:
    """Return what the translation needs of the settings."""
    return TranslateSettings(
        default_certificate=settings.default_certificate,
        host_ownership=settings.host_ownership == "namespace",
        allow_external_name=settings.allow_external_name,
        allow_loopback=standalone,
        own_addresses=frozenset(own_addresses),
        note_endpoints=standalone,
        implicit_class=standalone,
        controller_name=controller_name,
    )


def service_ref(text: str) -> ObjectRef | None:
    """Return the Service that ``namespace/name`` names; None: none is named."""
    namespace, _, name = text.partition("/")
    return ObjectRef("Service", namespace, name) if text else None
