"""`sluice-proxy`: parse the settings, start the supervisor."""

import logging
import sys
from importlib.metadata import version

import click

from proxy.platform.nonblocking_log import NonblockingHandler
from proxy.processes.listening_sockets import BindError
from proxy.processes.supervisor import supervise
from proxy.settings import options, settings_from


@click.command(context_settings={"auto_envvar_prefix": "SLUICE", "max_content_width": 132})
@click.version_option(version("sluice"), prog_name="sluice-proxy")
@options
def main(**values: object) -> None:
    """Serve what the controller configures over its control socket."""
    settings = settings_from(values)
    if not settings.control_socket:
        raise click.UsageError("--control-socket is missing; the path of the controller's unix socket would be accepted.")
    handler = NonblockingHandler(sys.stderr.fileno())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper())
    try:
        status = supervise(settings)
    except BindError as error:
        click.echo(f"sluice-proxy: {error}", err=True)
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main(prog_name="sluice-proxy")
