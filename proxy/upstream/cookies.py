# Compiled by mypyc: see setup.py.
"""Cookies of requests, as far as the choice of an endpoint looks at them: find one, take one away (RFC 6265, 4.2.1). Pure."""

from collections.abc import Sequence


def find_cookie(fields: Sequence[str], name: str) -> str | None:
    """Return the value of the first cookie of that name in the values of the Cookie fields; None: there is none."""
    for field in fields:
        if name in field:
            for pair in field.split(";"):
                cookie_name, equals, value = pair.strip(" \t").partition("=")
                if equals and cookie_name == name:
                    return value
    return None


def without_cookie(forward: bytes, name: str, value: str) -> bytes:
    """Return field lines without every cookie of that name and value; a Cookie field that held nothing else goes with it."""
    wanted = f"{name}={value}".encode("latin-1")
    lines: list[bytes] = []
    for line in forward.split(b"\r\n"):
        field, colon, pairs = line.partition(b":")
        if colon and wanted in pairs and field.lower() == b"cookie":
            kept = [stripped for pair in pairs.split(b";") if (stripped := pair.strip(b" \t")) and stripped != wanted]
            if kept:
                lines.append(field + b": " + b"; ".join(kept))
        else:
            lines.append(line)
    return b"\r\n".join(lines)
