"""Write the table of settings in README.md from the options of the two programs; `--check` says whether it is up to date."""

import sys
from pathlib import Path

import click

from controller.cli import controller_command, standalone
from proxy.__main__ import main as proxy_main

README = Path(__file__).resolve().parent.parent / "README.md"
START, END = "<!-- settings -->\n", "<!-- /settings -->\n"


def rows(program: str, command: click.Command, but: click.Command | None = None) -> list[str]:
    """Return a row for each setting of a program, but for those of another one."""
    found = []
    known = {option.name for option in but.params} if but is not None else set()
    for option in command.params:
        if (
            option.name not in known
            and isinstance(option, click.Option)
            and option.help
            and not option.hidden
            and option.name not in ("help", "version")
        ):
            flag = "/".join([*option.opts, *option.secondary_opts])
            default = option.show_default if isinstance(option.show_default, str) else option.default
            shown = (
                "off" if default is False else "on" if default is True else str(default) if default not in ("", None) else "none"
            )
            variable = option.envvar if isinstance(option.envvar, str) else "SLUICE_" + str(option.name).upper()
            found.append(f"| `{flag}` | `{variable}` | {shown} | {program} | {option.help.replace('|', chr(92) + '|')} |")
    return found


def table() -> str:
    """Return the whole table."""
    head = ["| flag | variable | default | program | meaning |", "|---|---|---|---|---|"]
    found = [
        *rows("sluice", standalone),
        *rows("sluice controller", controller_command, standalone),
        *rows("sluice-proxy", proxy_main),
    ]
    return "\n".join([*head, *found]) + "\n"


def with_table(text: str) -> str:
    """Return README's text with the table as it should be."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return before + START + table() + END + after


def main() -> int:
    """Write or check; return the exit code."""
    text = README.read_text()
    wanted = with_table(text)
    if "--check" in sys.argv:
        return 0 if text == wanted else 1
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
