"""Write the table of settings in README.md from the options of the two programs; `--check` says whether it is up to date."""

import sys
from pathlib import Path

import click
from pages import between, write_or_check

from controller.cli import controller_command, standalone
from proxy.__main__ import main as proxy_main

README = Path(__file__).resolve().parent.parent / "README.md"


def _default(option: click.Option) -> str:
    """Return the value that holds where a setting is not given."""
    if option.required:
        return "required"
    default = option.show_default if isinstance(option.show_default, str) else option.default
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default) if default not in ("", None) else "none"


def rows(program: str, command: click.Command, but: click.Command | None = None) -> list[str]:
    """Return a row for each setting of a program, but for those of another one."""
    found = []
    known = {"help", "version"} | ({option.name for option in but.params} if but is not None else set())
    for option in command.params:
        if isinstance(option, click.Option) and option.help and not option.hidden and option.name not in known:
            flag = "/".join([*option.opts, *option.secondary_opts])
            variable = option.envvar if isinstance(option.envvar, str) else "SLUICE_" + str(option.name).upper()
            meaning = option.help.replace("|", chr(92) + "|")
            found.append(f"| `{flag}` | `{variable}` | {_default(option)} | {program} | {meaning} |")
    return found


def table() -> str:
    """Return the whole table."""
    head = ["| flag | variable | default | program | meaning |", "|---|---|---|---|---|"]
    ours = [*rows("sluice", standalone), *rows("sluice controller", controller_command, standalone)]
    return "\n".join([*head, *ours, *rows("sluice-proxy", proxy_main)]) + "\n"


def with_table(text: str) -> str:
    """Return README's text with the table as it should be."""
    return between(text, "settings", table())


if __name__ == "__main__":
    sys.exit(write_or_check(README, with_table))
