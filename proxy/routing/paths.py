# Compiled by mypyc: see setup.py.
"""Paths as backends may read them: the same bytes can mean different paths to the router and to the application.

A path with dot segments, empty segments, encoded separators or parameters has several readings; a request is only served if all
of them lead to the same route (docs/wire.md, one reading; RFC 3986, 6.2.2).
"""

import re
from typing import Final

_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_BAD_ENCODING: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# ASCII in more bytes than it needs is no UTF-8 (RFC 3629, 3), but decoders that do not check read `.`, `/` and `\` from it.
_OVERLONG: Final = re.compile(
    "(?:\xe0|\xf0\x80|\xf8\x80\x80|\xfc\x80\x80\x80)[\x80\x81][\x80-\xbf]|[\xc0\xc1][\x80-\xbf]",
)
_SLASHES: Final = re.compile("/{2,}")
_PARAMETERS: Final = re.compile(";[^/]*")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def lies_under(path: str, directory: str) -> bool:
    """Tell whether a path is a directory, given without its trailing slash, or below it."""
    return path == directory or path.startswith(directory + "/")


def is_plain(path: str) -> bool:
    """Tell whether a path has only one reading."""
    # Five searches for what is hardly ever there are twice as fast as one for any of them.
    return not ("%" in path or "//" in path or "/." in path or ";" in path or "\\" in path)


_DIGITS: Final = "0123456789abcdefABCDEF"
_CHARACTERS: Final = {f"%{high}{low}": chr(int(high + low, 16)) for high in _DIGITS for low in _DIGITS}
_UNRESERVED_ONLY: Final = {
    encoded: character if character in _UNRESERVED else encoded.upper() for encoded, character in _CHARACTERS.items()
}


def _decode_unreserved(path: str) -> str:
    return _ENCODED.sub(lambda match: _UNRESERVED_ONLY[match[0]], path) if "%" in path else path


def _decode_all(path: str) -> str:
    return _ENCODED.sub(lambda match: _CHARACTERS[match[0]], path) if "%" in path else path


def _decode_overlong(decoded: str) -> str:
    """Read overlong sequences as a lax decoder does; each character of `decoded` is a byte."""
    if decoded.isascii():
        return decoded
    return _OVERLONG.sub(lambda match: chr((ord(match[0][-2]) & 1) << 6 | ord(match[0][-1]) & 0x3F), decoded)


def remove_dot_segments(path: str) -> str:
    """Resolve `.` and `..` (RFC 3986, 5.2.4) of a path that begins with `/`."""
    if "/." not in path:
        return path
    output: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if output:
                output.pop()
        elif segment != ".":
            output.append(segment)
    if segments[-1] in (".", ".."):
        output.append("")
    return "/" + "/".join(output)


def merge_slashes(path: str) -> str:
    """Collapse empty segments, as many backends do."""
    return _SLASHES.sub("/", path) if "//" in path else path


def strip_parameters(path: str) -> str:
    """Drop what follows `;` in each segment, as servlet containers do."""
    return _PARAMETERS.sub("", path) if ";" in path else path


def decoded_path(path: str) -> str:
    """Return the reading that expressions are tried on: decoded once, slashes merged, dots resolved (nginx's `$uri`)."""
    return path if is_plain(path) else remove_dot_segments(merge_slashes(_decode_all(path)))


def _decode_unwritable(match: re.Match[str]) -> str:
    character = _CHARACTERS[match[0]]
    return match[0] if "!" <= character <= "~" else character


def decode_unwritable(path: str) -> str:
    """Decode what can be written in no other way, as of `/caf%C3%A9`."""
    return _ENCODED.sub(_decode_unwritable, path) if "%" in path else path


def path_problem(path: str) -> str:
    """Return in a sentence why `readings` refuses a path outright; empty: it does not."""
    if _BAD_ENCODING.search(path):
        return 'The request\'s path has "%" in it without two hexadecimal digits behind it; the sign itself is written %25.'
    if "\\" in path:
        return 'The request\'s path has "\\" in it, which must be written %5C.'
    if "\0" in _decode_overlong(_decode_all(path)):
        return "The request's path has an encoded NUL in it, such as %00; there may be none."
    return ""


def readings(path: str) -> tuple[str, ...] | None:
    """Return every plausible reading of a path, the router's own first; None: it is refused outright, see `path_problem`."""
    if _BAD_ENCODING.search(path) or "%00" in path or "\\" in path:
        return None
    plain = _decode_unreserved(path)
    results = dict.fromkeys((remove_dot_segments(plain), plain, path))
    decoded = _decode_all(plain)
    lax = _decode_overlong(decoded)
    if "\0" in lax:
        return None
    decodings = (plain, decoded, _decode_all(decoded), lax, _decode_overlong(_decode_all(lax)))
    variants = dict.fromkeys((*decodings, *[decoding.replace("\\", "/") for decoding in decodings]))
    for stripped in dict.fromkeys((*variants, *map(strip_parameters, variants))):
        resolved = remove_dot_segments(stripped)
        results[resolved] = None
        if "//" in stripped:
            results[remove_dot_segments(merge_slashes(stripped))] = None
        results[merge_slashes(resolved)] = None
    return tuple(results)
