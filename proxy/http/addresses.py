"""IP addresses as they stand in fields, logs and keys, and sets of networks, made once and asked often. Pure.

`packed` is the one parser of addresses: whoever trusts, limits, lists, hashes or logs a client goes by what it reads.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

MAX_HOPS = 32
"""Hops of X-Forwarded-For that are looked at; real chains have a handful."""

_MAPPED = b"\0" * 10 + b"\xff\xff"
"""How an IPv6 address begins that stands for an IPv4 one (RFC 4291, 2.5.5.2)."""
_TRANSLATED = b"\x00\x64\xff\x9b"
"""How the addresses begin behind which translators put all of IPv4 (RFC 6052, 2.1; RFC 8215): a /64 of theirs is nobody's own."""
_LONGEST = 80
"""Characters of the longest way to write an address: brackets, IPv4 at the end, a zone of 16, a port."""
_PORT = re.compile(r":[0-9]{1,5}")
_ZONE = re.compile(r"%\S+")


def packed(text: str) -> bytes | None:
    """Return an address as 4 or 16 bytes; None: it is none.

    A port, with which some load balancers write it, and a zone, which means something on one machine only (RFC 4007, 6), are left
    out; IPv6 with a port stands in brackets. What stands for an IPv4 address is that address.
    """
    if len(text) > _LONGEST:
        return None
    try:
        if text[:1] == "[":
            address, bracket, port = text[1:].partition("]")
            if not bracket or ":" not in address or (port and _PORT.fullmatch(port) is None):
                return None
        else:
            address, colon, port = text.partition(":")
            if not colon:
                return inet_pton(AF_INET, text)
            if "." in address:
                return inet_pton(AF_INET, address) if _PORT.fullmatch(colon + port) is not None else None
            address = text
        address, percent, zone = address.partition("%")
        if percent and _ZONE.fullmatch(percent + zone) is None:
            return None
        found = inet_pton(AF_INET6, address)
    except (OSError, ValueError):  # not an address; a null character or one outside of Latin-1
        return None
    return found[12:] if found.startswith(_MAPPED) else found


def written(address: bytes) -> str:
    """Write an address, as `packed` gives it, in the one way that is used everywhere (RFC 5952)."""
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def host_and_port(address: str, port: int) -> str:
    """Write an endpoint as URLs have it: IPv6 in brackets (RFC 3986, 3.2.2)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def client_behind(chain: str, peer: str, trusts: Callable[[bytes], bool]) -> str:
    """Return the client of a trusted peer by X-Forwarded-For: from the right, the first hop that is not trusted itself."""
    return hops_behind(chain, peer, trusts)[-1]


def hops_behind(chain: str, peer: str, trusts: Callable[[bytes], bool]) -> list[str]:
    """Return the hops of X-Forwarded-For that are believed of a trusted peer: the peer first, the client last.

    Where a hop is no address, whoever wrote it is all that is known of the client: the last trusted hop. So it is behind `MAX_HOPS`
    hops, and where nothing is left. Only as much is read as trust goes.
    """
    hops = [peer]
    end = len(chain)
    for _ in range(MAX_HOPS):
        comma = chain.rfind(",", 0, end)
        hop = chain[comma + 1 : end].strip(" \t")
        if hop:  # RFC 9110, 5.6.1: empty elements of a list are to be ignored
            address = packed(hop)
            if address is None:
                break
            hops.append(written(address))
            if not trusts(address):
                break
        if comma < 0:
            break
        end = comma
    return hops


def limit_key(client: str) -> bytes:
    """Return what limits count a client under: IPv4 whole, IPv6 by its /64, of which each site has a whole one (RFC 6177).

    On a link, and where IPv4 is translated, a /64 has many clients: those are counted by themselves.
    """
    address = packed(client) or b""
    if len(address) < 16 or (address[0] == 0xFE and address[1] & 0xC0 == 0x80) or address.startswith(_TRANSLATED):
        return address
    return address[:8]


def network_of(client: str) -> bytes:
    """Return the network of a client, of which one party may well have all: the /24 of IPv4, the /48 of IPv6 (RFC 6177)."""
    address = packed(client) or b""
    return address[:3] if len(address) == 4 else address[:6]


class Networks:
    """Some networks. Asking costs one look for each length of prefix among them."""

    __slots__ = ("_by_size",)

    def __init__(self, cidrs: Iterable[str]) -> None:
        """Hold networks; raises ValueError for what is no CIDR. One of IPv4 that is written as IPv6 covers what it stands for."""
        sizes: dict[int, dict[int, set[int]]] = {4: {}, 16: {}}
        for cidr in cidrs:
            network = ipaddress.ip_network(cidr, strict=False)
            shift = network.max_prefixlen - network.prefixlen
            first = network.network_address.packed
            if shift <= 32 and first.startswith(_MAPPED):
                first = first[12:]
            sizes[len(first)].setdefault(shift, set()).add(int.from_bytes(first, "big") >> shift)
        self._by_size: Mapping[int, tuple[tuple[int, frozenset[int]], ...]] = {
            size: tuple((shift, frozenset(found)) for shift, found in shifts.items()) for size, shifts in sizes.items()
        }

    def covers(self, address: bytes) -> bool:
        """Tell whether an address, as `packed` gives it, is in one of them."""
        number = int.from_bytes(address, "big")
        return any(number >> shift in prefixes for shift, prefixes in self._by_size[len(address)])
