"""Values of annotations: each function reads a text, or makes one that does. What cannot be read is `Refused`."""

import re
from collections.abc import Callable
from typing import Any

from controller.resources.annotations.annotation import Parse, Refused
from controller.resources.reading.fields import TIMEOUT_HINT, parse_count, parse_size, parse_timeout
from controller.resources.reading.networks import ADDRESS_HINT, parse_network
from controller.resources.reading.schema import rule_part_takes


def flag(text: str) -> bool | Refused:
    """Read "true" or "false"."""
    return text == "true" if text in ("true", "false") else Refused('"true" or "false" would be accepted.')


def presence(value: object) -> Parse:
    """Make a reader of flags: true stands for a value, false for nothing."""

    def parse(text: str) -> object:
        is_set = flag(text)
        return is_set if isinstance(is_set, Refused) else value if is_set else None

    return parse


def text_of(read: Callable[[str], object | None], hint: str) -> Parse:
    """Make a reader that takes a text as it is where `read` reads it."""
    return lambda text: Refused(hint) if read(text) is None else text


timeout = text_of(parse_timeout, TIMEOUT_HINT)
size = text_of(parse_size, "a size such as 65536, 64Ki or 1M would be accepted.")

_NGINX_SIZE = re.compile(r"([0-9]{1,24})([kmg]?)", re.ASCII | re.IGNORECASE)
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30}
MOST_BYTES = 1 << 60
"""As far as the proxy counts."""


def nginx_size(text: str) -> int | Refused:
    """Read bytes as nginx does (ngx_parse_offset): powers of 1024. What is above the largest that can be counted is that."""
    match = _NGINX_SIZE.fullmatch(text.strip())
    if match is None:
        return Refused(
            "so nothing is limited; a size as nginx reads it, such as 8m, 512k or 1048576, or 0 for no limit, would be accepted."
        )
    return min(int(match[1]) << _SHIFTS[match[2].lower()], MOST_BYTES)


def choice(*names: str) -> Parse:
    """Make a reader of one of several words."""
    hint = f"{', '.join(names[:-1])} or {names[-1]} would be accepted."
    return lambda text: text if text in names else Refused(hint)


def whole_number(least: int, most: int) -> Parse:
    """Make a reader of a whole number."""

    def parse(text: str) -> int | Refused:
        number = 0 if least == 0 and text and not text.strip("0") else parse_count(text, most)
        return Refused(f"a whole number from {least} to {most} would be accepted.") if number is None else number

    return parse


def field_text(rule: str, hint: str) -> Parse:
    """Make a reader of a text that the schema takes in a field of a rule."""
    path = rule.split(".")
    return lambda text: text if rule_part_takes(path, text) else Refused(hint)


def comma_list(read: Callable[[str], str | None], hint: str) -> Parse:
    """Make a reader of a list with commas, none of whose entries may be wrong."""

    def parse(text: str) -> Any:
        entries = [read(entry) for entry in filter(None, map(str.strip, text.split(",")))]
        return Refused(hint) if not entries or None in entries else list(dict.fromkeys(entries))

    return parse


networks = comma_list(lambda text: parse_network(text, bare=True), ADDRESS_HINT)
