"""The controller's settings: frozen, parsed once from flags and `SLUICE_*` variables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import click

from controller.resources.refs import ObjectRef
from controller.translate import TranslateSettings
from controller.translate.attach import CONTROLLER


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
    publish_service: str = ""
    """``namespace/name`` of the Service whose addresses go into the status of Ingresses."""
    publish_address: tuple[str, ...] = ()
    """Addresses or host names for the status of Ingresses, instead of a Service's."""
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


def _names(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part for part in value.replace(",", " ").split() if part)


def _certificate(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if value and (value.count("/") != 1 or value.startswith("/") or value.endswith("/")):
        raise click.BadParameter(f"{value!r} was found, NAMESPACE/NAME would be accepted.")
    return value


def _health(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise click.BadParameter(f"{value!r} was found, HOST:PORT, :PORT or [V6]:PORT would be accepted.")
    return value


_OPTIONS = (
    click.option(
        "--default-certificate",
        default="",
        metavar="NAMESPACE/NAME",
        callback=_certificate,
        envvar="SLUICE_DEFAULT_CERTIFICATE",
        show_envvar=True,
        show_default="one made at start",
        help="TLS Secret for hosts that have none of their own.",
    ),
    click.option(
        "--host-ownership",
        type=click.Choice(["shared", "namespace"]),
        default="shared",
        envvar="SLUICE_HOST_OWNERSHIP",
        show_envvar=True,
        show_default=True,
        help="Whether namespaces share hosts, or the first one to claim a host keeps it.",
    ),
    click.option(
        "--allow-external-name/--no-allow-external-name",
        default=False,
        envvar="SLUICE_ALLOW_EXTERNAL_NAME",
        show_envvar=True,
        show_default=True,
        help="Serve Services of type ExternalName: lets objects reach any name that the proxy can resolve.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        envvar="SLUICE_LOG_LEVEL",
        show_envvar=True,
        show_default=True,
        help="Least severe lines that are logged.",
    ),
)


_CLUSTER_OPTIONS = (
    click.option(
        "--control-socket",
        required=True,
        metavar="PATH",
        envvar="SLUICE_CONTROL_SOCKET",
        show_envvar=True,
        help="Unix socket where the proxy asks for its configuration.",
    ),
    click.option(
        "--health",
        default=":9091",
        metavar="HOST:PORT",
        callback=_health,
        envvar="SLUICE_HEALTH",
        show_envvar=True,
        show_default=True,
        help="Where /healthz is served; it fails when a watch has been silent for too long.",
    ),
    click.option(
        "--watch-namespaces",
        default="",
        metavar="A,B",
        callback=_names,
        envvar="SLUICE_WATCH_NAMESPACES",
        show_envvar=True,
        show_default="all",
        help="Namespaces whose objects are read.",
    ),
    click.option(
        "--publish-service",
        default="",
        metavar="NAMESPACE/NAME",
        callback=_certificate,
        envvar="SLUICE_PUBLISH_SERVICE",
        show_envvar=True,
        help="Service whose addresses are written into the status of Ingresses.",
    ),
    click.option(
        "--publish-address",
        default="",
        metavar="ADDRESS,..",
        callback=_names,
        envvar="SLUICE_PUBLISH_ADDRESS",
        show_envvar=True,
        help="IP addresses or host names for the status of Ingresses, instead of a Service's.",
    ),
    click.option(
        "--controller-name",
        default=CONTROLLER,
        envvar="SLUICE_CONTROLLER_NAME",
        show_envvar=True,
        show_default=True,
        help="IngressClasses that name this controller are ours.",
    ),
    click.option(
        "--lease",
        default="sluice-leader",
        envvar="SLUICE_LEASE",
        show_envvar=True,
        show_default=True,
        help="Lease in the pod's namespace that decides which replica writes statuses and Events.",
    ),
    click.option(
        "--proxy-uid",
        type=click.IntRange(0),
        default=None,
        envvar="SLUICE_PROXY_UID",
        show_envvar=True,
        show_default="our own",
        help="User of the proxy's container, who may use the control socket.",
    ),
    click.option(
        "--update-status/--no-update-status",
        default=True,
        envvar="SLUICE_UPDATE_STATUS",
        show_envvar=True,
        show_default=True,
        help="Write conditions, load balancer addresses and Events. Needs POD_NAME and POD_NAMESPACE.",
    ),
    click.option(
        "--pod-grace/--no-pod-grace",
        default=False,
        envvar="SLUICE_POD_GRACE",
        show_envvar=True,
        show_default=True,
        help="Close sockets of pods that terminate over what is left of their grace period. Needs the right to get pods.",
    ),
    click.option(
        "--grace",
        type=click.FloatRange(0),
        default=58.0,
        metavar="SECONDS",
        envvar="SLUICE_CONTROLLER_GRACE",
        show_envvar=True,
        show_default=True,
        help="When to end after SIGTERM although the proxy is still connected.",
    ),
    click.option("--pod-name", default="", envvar="POD_NAME", show_envvar=True, help="Name of this pod."),
    click.option("--pod-namespace", default="", envvar="POD_NAMESPACE", show_envvar=True, help="Namespace of this pod."),
    click.option(
        "--pod-addresses",
        default="",
        metavar="ADDRESS,..",
        callback=_names,
        envvar="POD_IP",
        show_envvar=True,
        help="Addresses of this pod: endpoints there would lead back to the proxy, and are refused.",
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
        implicit_class=standalone,
        controller_name=controller_name,
    )


def service_ref(text: str) -> ObjectRef | None:
    """Return the Service that ``namespace/name`` names; None: none is named."""
    namespace, _, name = text.partition("/")
    return ObjectRef("Service", namespace, name) if text else None
