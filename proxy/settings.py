"""The proxy's settings: frozen, parsed once from flags and `SLUICE_*` variables.

Every setting is a field here and an option in `options`; workers get the finished object by fork and parse nothing.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import click

from proxy.platform.cpu_quota import available_cpus

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
AccessLogMode = Literal["off", "text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
_C = TypeVar("_C", bound=Callable[..., object])

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


MAX_SILENCE = 32767
"""Seconds; the kernel takes no more (tcp(7), TCP_KEEPIDLE)."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener binds."""

    host: str
    """IP address or name; empty: all addresses, IPv6 and IPv4."""
    port: int
    """0: the system picks one."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse `host:port`, `:port` or `[v6]:port`; raises `ValueError` with a sentence."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is no address; host:port, :port or [v6]:port with a port from 0 to 65535 would be accepted.")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is no address; an IPv6 address stands in brackets: [{host}]:{port}.")
    return Address(host, int(port))


def parse_duration(text: str) -> float:
    """Parse a duration as Kubernetes writes it (`500ms`, `30s`, `1h30m`, `0`) into seconds; raises `ValueError` with a sentence."""
    if text == "0":
        return 0.0
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration; a number with a unit would be accepted, as in 500ms, 30s or 1h30m.")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of this proxy's operator. Durations in seconds."""

    http: Address = Address("", 8080)
    https: Address = Address("", 8443)
    admin: Address = Address("127.0.0.1", 9090)
    admin_details: bool = False
    """/routes and /problems answer peers that are not loopback."""
    workers: int = 1
    control_socket: str = ""
    """Path of the unix socket that the controller listens on."""
    admin_socket: str = ""
    """Path of the unix socket for `sluice sockets` and `sluice drain`; empty: none."""
    drain_delay: float = 5.0
    drain_time: float = 30.0
    grace: float = 55.0
    close_wait: float = 2.0
    public_http_port: int = 0
    """Port that clients use; 0: the bound one."""
    public_https_port: int = 0
    trusted_proxies: tuple[Network, ...] = ()
    forwarded: bool = False
    strict_sni: bool = False
    min_body_rate: int = 240
    """Bytes per second; 0: no limit."""
    access_log: AccessLogMode = "off"
    header_timeout: float = 15.0
    keepalive_timeout: float = 75.0
    tls_handshake_timeout: float = 10.0
    tcp_keepalive: float = 60.0
    """Silence after which the kernel asks the peer of a connection, on both sides; 0: never."""
    log_level: LogLevel = "info"
    max_connections: int = 0
    """Open WebSockets of all routes and workers; 0: any number."""
    max_connections_per_client: int = 0
    """The same of one client: an IPv4 address or an IPv6 /64."""
    controller_uid: int | None = None
    """User who may own the control socket, beside our own and root; None: nobody else."""


class _Parsed(click.ParamType[object]):
    """A click type around one of the parse functions here."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Parse strings; anything else was parsed already."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _parse_workers(text: str) -> int:
    if text == "auto":
        return available_cpus()
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise ValueError(f"{text!r} is no number of workers; auto or a number from 1 to 256 would be accepted.")
    return int(text)


def _parse_silence(text: str) -> float:
    seconds = parse_duration(text)
    if seconds and not 1 <= seconds <= MAX_SILENCE:
        raise ValueError(f"{text!r} is out of bounds; 0, or a duration from 1s to {MAX_SILENCE}s, would be accepted.")
    return seconds


def _parse_networks(text: str) -> tuple[Network, ...]:
    networks = []
    for part in filter(None, re.split(r"[,\s]+", text)):
        try:
            networks.append(ipaddress.ip_network(part, strict=False))
        except ValueError:
            raise ValueError(
                f"{part!r} is no network; CIDRs separated by commas would be accepted, as in 10.0.0.0/8,fd00::/8."
            ) from None
    return tuple(networks)


ADDRESS = _Parsed("address", parse_address)
DURATION = _Parsed("duration", parse_duration)
_SILENCE = _Parsed("duration", _parse_silence)
_WORKERS = _Parsed("number", _parse_workers)
_NETWORKS = _Parsed("cidrs", _parse_networks)
_PORT = click.IntRange(0, 65535)


def _option(flag: str, kind: object, default: object, text: str) -> Callable[[_C], _C]:
    return click.option(flag, type=kind, default=default, show_default=True, show_envvar=True, help=text)


_OPTIONS: tuple[Callable[[Callable[..., object]], Callable[..., object]], ...] = (
    _option("--http", ADDRESS, ":8080", "Where plain HTTP is served; port 0 picks one and prints it."),
    _option("--https", ADDRESS, ":8443", "Where HTTPS is served; port 0 picks one and prints it."),
    _option("--admin", ADDRESS, "127.0.0.1:9090", "Where /metrics, /healthz, /readyz, /routes, /sockets and /problems are served."),
    _option(
        "--admin-details/--no-admin-details",
        bool,
        False,
        "Serve /routes, /sockets and /problems to peers that are not loopback, by IP address.",
    ),
    _option("--workers", _WORKERS, "auto", "Worker processes; auto: as many as the CPU quota allows."),
    _option("--control-socket", str, "", "Path of the unix socket that the controller listens on."),
    _option(
        "--controller-uid", click.IntRange(0), None, "User of the controller's container; our own and root are accepted anyway."
    ),
    _option("--admin-socket", str, "", "Path of a unix socket for sluice sockets and sluice drain, made with mode 0600."),
    _option("--drain-delay", DURATION, "5s", "How long SIGTERM goes on accepting, while load balancers notice."),
    _option("--drain-time", DURATION, "30s", "Over how long SIGTERM spreads the closing of WebSockets."),
    _option("--grace", DURATION, "55s", "When the proxy ends after SIGTERM, whatever is still open."),
    _option("--close-wait", DURATION, "2s", "How long a closed WebSocket waits for the other side's close frame."),
    _option("--public-http-port", _PORT, 0, "Port that clients use for HTTP, where it is not the bound one; 0: the bound one."),
    _option("--public-https-port", _PORT, 0, "Port that clients use for HTTPS, for redirects too; 0: the bound one."),
    _option("--trusted-proxies", _NETWORKS, "", "CIDRs, separated by commas, whose X-Forwarded-* fields are believed."),
    _option("--forwarded/--no-forwarded", bool, False, "Send the Forwarded field (RFC 7239) to backends too."),
    _option("--strict-sni/--no-strict-sni", bool, False, "Refuse TLS server names that have no certificate."),
    _option("--min-body-rate", click.IntRange(0), 240, "Bytes per second that a request body must keep after 30 s; 0: no limit."),
    _option(
        "--max-connections",
        click.IntRange(0),
        0,
        "WebSockets that may be open in this pod; above it 503. 0: as many as can be had.",
    ),
    _option(
        "--max-connections-per-client",
        click.IntRange(0),
        0,
        "The same for each client, by its address or of IPv6 its /64; above it 429. 0: no limit.",
    ),
    _option("--access-log", click.Choice(["off", "text", "json"]), "off", "Lines for answers and WebSockets, on stdout."),
    _option("--header-timeout", DURATION, "15s", "How long a connection may take to its first complete head."),
    _option("--keepalive-timeout", DURATION, "75s", "How long a kept-alive connection may wait for its next request."),
    _option("--tls-handshake-timeout", DURATION, "10s", "How long a TLS handshake may take, its first byte included."),
    _option(
        "--tcp-keepalive", _SILENCE, "60s", "Silence after which TCP asks whether clients and endpoints are still there; 0: never."
    ),
    _option("--log-level", click.Choice(["debug", "info", "warning", "error"]), "info", "Least severe lines that are logged."),
)


def options(command: _C) -> _C:
    """Decorate a click command with every setting of the proxy."""
    decorated: Callable[..., object] = command
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return cast("_C", decorated)


def settings_from(values: Mapping[str, object]) -> Settings:
    """Make settings of what click parsed; raises `click.UsageError` where two of them contradict each other."""
    settings = Settings(**values)  # type: ignore[arg-type]  # click's types are the fields' types; a test holds names equal
    least = settings.drain_delay + settings.close_wait
    if least >= settings.grace:
        raise click.UsageError(
            f"--grace is {settings.grace:g}s; more than --drain-delay and --close-wait together, {least:g}s, would be accepted."
        )
    return settings
