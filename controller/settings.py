"""The controller's settings: frozen, parsed once from flags and `SLUICE_*` variables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import click

from controller.translate import TranslateSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator of this controller decided."""

    default_certificate: str = ""
    """``namespace/name`` of a TLS Secret; empty: the proxy makes one."""
    host_ownership: Literal["shared", "namespace"] = "shared"
    allow_external_name: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def _certificate(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if value and (value.count("/") != 1 or value.startswith("/") or value.endswith("/")):
        raise click.BadParameter(f"{value!r} was found, NAMESPACE/NAME of a Secret would be accepted.")
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


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every setting of the controller."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def translate_settings(settings: Settings, *, standalone: bool) -> TranslateSettings:
    """Return what the translation needs of the settings."""
    return TranslateSettings(
        default_certificate=settings.default_certificate,
        host_ownership=settings.host_ownership == "namespace",
        allow_external_name=settings.allow_external_name,
        allow_loopback=standalone,
        implicit_class=standalone,
    )
