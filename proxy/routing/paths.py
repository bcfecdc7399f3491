"""Paths as backends may read them: the same bytes can mean different paths to the router and to the application.

A path with dot segments, empty segments, encoded separators or parameters has several readings; a request is only served if all
of them lead to the same route (spec/wire.md, RFC 3986 section 6.2.2).
"""

import re

_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
_BAD_ENCODING = re.compile(r"%(?![0-9A-Fa-f]{2})")
# ASCII in more bytes than it needs is no UTF-8 (RFC 3629, 3), but decoders that do not check read `.`, `/` and `\` from it.
_OVERLONG = re.compile(
    "(?:\xe0|\xf0\x80|\xf8\x80\x80|\xfc\x80\x80\x80)[\x80\x81][\x80-\xbf]|[\xc0\xc1][\x80-\xbf]",
)
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def is_plain(path: str) -> bool:
    """Tell whether a path has only one reading."""
    # Five searches for what is hardly ever there are twice as fast as one for any of them.
    return not ("%" in path or "//" in path or "/." in path or ";" in path or "\\" in path)


def _decode_unreserved(path: str) -> str:
    def replace(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else "%" + match[1].upper()

    return _ENCODED.sub(replace, path)


def _decode_all(path: str) -> str:
    return _ENCODED.sub(lambda match: chr(int(match[1], 16)), path)


def _decode_overlong(decoded: str) -> str:
    """Read overlong sequences as a lax decoder does; each character of `decoded` is a byte."""
    return _OVERLONG.sub(lambda match: chr((ord(match[0][-2]) & 1) << 6 | ord(match[0][-1]) & 0x3F), decoded)


def remove_dot_segments(path: str) -> str:
    """Resolve `.` and `..` (RFC 3986, 5.2.4)."""
    output: list[str] = []
    segments = path.split("/")[1:]
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == ".." and output:
            output.pop()
        if segment in (".", ".."):
            if last:
                output.append("")
        else:
            output.append(segment)
    return "/" + "/".join(output)


def merge_slashes(path: str) -> str:
    """Collapse empty segments, as many backends do."""
    return re.sub("/{2,}", "/", path)


def strip_parameters(path: str) -> str:
    """Drop what follows `;` in each segment, as servlet containers do."""
    return re.sub(";[^/]*", "", path)


def unreadable(path: str) -> str:
    """Say in a sentence why `readings` refuses a path outright; empty: it does not."""
    if _BAD_ENCODING.search(path):
        return 'The request\'s path has "%" in it without two hexadecimal digits behind it; the sign itself is written %25.'
    if "\\" in path:
        return 'The request\'s path has "\\" in it, which must be written %5C.'
    if "\0" in _decode_overlong(_decode_all(path)):
        return "The request's path has an encoded NUL in it, such as %00; there may be none."
    return ""


def readings(path: str) -> tuple[str, ...] | None:
    """Return every plausible reading of a path, the router's own first; None: it is refused outright, see `unreadable`."""
    if _BAD_ENCODING.search(path) or "%00" in path or "\\" in path:
        return None
    plain = _decode_unreserved(path)
    found = dict.fromkeys((remove_dot_segments(plain), plain, path))
    decoded = _decode_all(plain)
    lax = _decode_overlong(decoded)
    if "\0" in lax:
        return None
    decodings = (plain, decoded, _decode_all(decoded), lax, _decode_overlong(_decode_all(lax)))
    for variant in dict.fromkeys((*decodings, *[one.replace("\\", "/") for one in decodings])):
        for stripped in (variant, strip_parameters(variant)):
            found[remove_dot_segments(stripped)] = None
            found[remove_dot_segments(merge_slashes(stripped))] = None
            found[merge_slashes(remove_dot_segments(stripped))] = None
    return tuple(found)
