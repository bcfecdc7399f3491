"""`sluice`: the commands of the controller."""

import asyncio
import ctypes
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
import uvloop
import yaml

from controller.admin_client import CommandError, fetch_sockets, order_drain, table
from controller.process.restarter import RESTARTER_PID, become_restarter
from controller.resources import Ingress, WsRoute
from controller.resources.reading.fields import parse_duration
from controller.settings import ClusterSettings, Settings, cluster_options, settings_options, translate_settings
from controller.sources.certificate_dates import CertificateDates
from controller.sources.folder import FolderError, FolderSource
from controller.translate import IncrementalState, Translation, translate
from proxy.model.sensitive import Sensitive
from proxy.model.sockets import DrainOrder, order_problem

_PR_SET_PDEATHSIG = 1
FOLDER = click.Path(path_type=Path)
WATCH_SECONDS = 2.0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(version("sluice"), prog_name="sluice")
def main() -> None:
    """Sluice: an ingress controller that treats WebSockets as first-class."""


class _WithProxyHelp(click.Command):
    """A command that hands options on to sluice-proxy, whose help follows its own."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the options of the proxy too; it is asked, not imported."""
        del ctx
        result = subprocess.run([sys.executable, "-P", "-m", "proxy", "--help"], capture_output=True, text=True, check=False)
        formatter.write("\nOptions that are handed on to sluice-proxy, after DIR; here --drain-delay is 0s unless it is set:\n\n")
        formatter.write(result.stdout)


@main.command(cls=_WithProxyHelp, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.argument("proxy_arguments", metavar="[OPTIONS OF SLUICE-PROXY]", nargs=-1, type=click.UNPROCESSED)
@settings_options
def standalone(folder: Path, proxy_arguments: tuple[str, ...], **values: Any) -> None:
    """Serve the objects in DIR, re-read on change, without a cluster. DIR comes first."""
    settings = Settings(**values)
    if str(folder).startswith("-"):
        raise click.UsageError(f"DIR comes first, before the options; {folder} was found.")
    # Imported here: to find the C library asyncinotify runs other programs, for a twentieth of a second, in every command.
    from controller.process.forked_proxy import ForkedProxy  # noqa: PLC0415  the same
    from controller.standalone import run_standalone  # noqa: PLC0415

    with ForkedProxy(["--log-level", settings.log_level, *proxy_arguments]) as proxy:
        _log_to_stderr(settings)
        code = asyncio.run(run_standalone(folder, settings, proxy))
    sys.exit(code)


def _log_to_stderr(settings: Settings) -> None:
    # kopf has a line for every try of a request; the reflectors say once what is wrong and when it is over.
    logging.getLogger("sluice.sources.requests").setLevel(logging.DEBUG if settings.log_level == "debug" else logging.CRITICAL)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )


@main.command("controller")
@cluster_options
@settings_options
def controller_command(**values: Any) -> None:
    """Serve the objects of a cluster: feed the proxy of this pod, and tell the objects' owners what became of them."""
    names = {field.name for field in dataclasses.fields(ClusterSettings)}
    settings = Settings(**{name: value for name, value in values.items() if name not in names})
    cluster = ClusterSettings(**{name: value for name, value in values.items() if name in names})
    if cluster.watch_namespaces and cluster.watch_namespace_selector:
        raise click.UsageError(
            f"--watch-namespace-selector: {cluster.watch_namespace_selector!r} was found beside --watch-namespaces; "
            "one of the two would be accepted."
        )
    restarter = os.environ.get(RESTARTER_PID)
    if restarter is None:
        become_restarter(["-P", "-m", "controller.cli", *sys.argv[1:]])
    elif not _die_with(int(restarter)):
        sys.exit(1)
    _log_to_stderr(settings)
    # Imported here: kopf brings the kubernetes client, and neither standalone nor lint needs 25 MB of them.
    from controller.operator import run_controller  # noqa: PLC0415

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(run_controller(settings, cluster)))


def _die_with(parent: int) -> bool:
    """Have the kernel end this process when its parent ends; False: it has already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def _fail(message: object, code: int = 1) -> NoReturn:
    click.echo(str(message), err=True)
    sys.exit(code)


def _read(folder: Path, settings: Settings) -> tuple[FolderSource, Translation]:
    source = FolderSource(folder)
    try:
        asyncio.run(source.refresh())
    except FolderError as error:
        _fail(error, 2)
    snapshot = CertificateDates().check(source.snapshot, time.time())
    # A folder without any EndpointSlice is written for a cluster, which makes them.
    settings_used = dataclasses.replace(
        translate_settings(settings, standalone=True), note_endpoints=bool(snapshot.endpoint_slices)
    )
    return source, translate(snapshot, settings_used, IncrementalState())


@main.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How problems are printed."
)
@settings_options
def lint(folder: Path, form: str, **values: Any) -> None:
    """Print one line per problem of the objects in DIR. Exits with 1 if there is any, with 2 if something cannot be read.

    What is wrong with Secrets that no object names is a note, and so is, where DIR has EndpointSlices, a Service without an
    endpoint that is ready: it is printed, and the exit code does not tell of it.
    """
    source, translation = _read(folder, Settings(**values))
    problems = (*source.problems, *translation.problems)
    if form == "json":
        rows = [
            {
                "kind": problem.ref.kind,
                "namespace": problem.ref.namespace,
                "name": problem.ref.name,
                "reason": str(problem.reason),
                "field": problem.field,
                "message": problem.message,
                "note": note,
            }
            for group, note in ((problems, False), (translation.notes, True))
            for problem in group
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        for problem in problems:
            click.echo(f"{problem.ref}: {problem.message}")
        for problem in translation.notes:
            click.echo(f"note: {problem.ref}: {problem.message}")
    click.echo(_checked_routes(source, translation), err=True)
    unreadable = any(problem.ref.kind == "File" for problem in problems)
    sys.exit(2 if unreadable else 1 if problems else 0)


def _checked_routes(source: FolderSource, translation: Translation) -> str:
    """Say how many routes were checked, and which were not because their class is not ours."""
    snapshot = source.snapshot
    items: list[Ingress | WsRoute] = [*snapshot.ingresses.values(), *snapshot.ws_routes.values()]
    foreign = [item for item in items if item.ref not in translation.verdicts]
    count = len(translation.verdicts)
    checked = "1 Ingress or WsRoute was checked." if count == 1 else f"{count} Ingresses and WsRoutes were checked."
    if not foreign:
        return checked
    names = (item.class_name or (item.legacy_class if isinstance(item, Ingress) else None) for item in foreign)
    classes = sorted({name or "(none)" for name in names})
    return f"{checked} {len(foreign)} would not be served: no IngressClass of ours is named {', '.join(classes)}."


@main.command("translate")
@click.argument("folder", metavar="DIR", type=FOLDER)
@settings_options
def translate_command(folder: Path, **values: Any) -> None:
    """Print the proxy's configuration for the objects in DIR as YAML, key material redacted."""
    _, translation = _read(folder, Settings(**values))
    click.echo(show(translation.config), nl=False)


_ADMIN_SOCKET = click.option(
    "--admin-socket",
    default="/run/sluice-proxy/admin.sock",
    show_default=True,
    metavar="PATH",
    envvar="SLUICE_ADMIN_SOCKET",
    show_envvar=True,
    help="Unix socket of the proxy, as its own --admin-socket has it.",
)


@main.command("sockets")
@_ADMIN_SOCKET
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How it is shown.")
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
def sockets_command(admin_socket: str, form: str, *, watch: bool) -> None:
    """Show the open WebSockets of this pod's proxy: where each leads, how old it is, what passed."""
    try:
        while True:
            rows = asyncio.run(fetch_sockets(admin_socket))
            text = table(rows) if form == "table" else msgspec.json.format(msgspec.json.encode(rows), indent=2).decode()
            if watch:
                click.clear()
            click.echo(text)
            if not watch:
                return
            time.sleep(WATCH_SECONDS)
    except CommandError as error:
        _fail(error)
    except KeyboardInterrupt:
        return


def _over(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    seconds = parse_duration(value)
    if seconds is None:
        raise click.BadParameter(f"{value!r} was found, a duration such as 0s, 30s or 5m would be accepted.")
    return seconds


@main.command("drain")
@click.argument("target", metavar="ROUTE|ENDPOINT")
@_ADMIN_SOCKET
@click.option(
    "--over", default="30s", show_default=True, callback=_over, help="The time over which closes are spread; 0s: at once."
)
@click.option("--code", default=1012, show_default=True, help="Close code.")
@click.option("--reason", default="service restart", show_default=True, help="Reason beside the code.")
def drain_command(target: str, admin_socket: str, over: float, code: int, reason: str) -> None:
    """Close the WebSockets of a route or an endpoint in this pod's proxy, spread evenly, the oldest first.

    ROUTE is an id as `sluice sockets` shows it, or one without its rule for all rules of the object; ENDPOINT an address, with or
    without a port. A Service, as NAMESPACE/NAME:PORT, stands for all its endpoints. New sockets may come all the same.
    """
    order = DrainOrder(target, over, code, reason)
    problem = order_problem(order)
    if problem:
        _fail(problem)
    try:
        count = asyncio.run(order_drain(admin_socket, order))
    except CommandError as error:
        _fail(error)
    if not count:
        _fail(f"No open socket of this pod is of {target}, or all end sooner; `sluice sockets` shows names.")
    click.echo(f"{count} sockets are closed over {over:g}s.")


def show(config: object) -> str:
    """Write a configuration as YAML, key material redacted."""
    return yaml.safe_dump(_plain(config), sort_keys=True, allow_unicode=True)


def _plain(value: object) -> object:
    if isinstance(value, Sensitive):
        return repr(value)
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    if isinstance(value, msgspec.Struct):
        tag = getattr(value, "__struct_config__").tag  # noqa: B009  msgspec's name for it
        fields = {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        return {"type": tag, **fields} if tag else fields
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


if __name__ == "__main__":
    main(prog_name="sluice")
