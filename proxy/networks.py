"""Sets of IP networks, made once and asked often. Pure."""

import ipaddress
from collections.abc import Iterable, Mapping
from socket import AF_INET, AF_INET6, inet_pton

_MAPPED = b"\0" * 10 + b"\xff\xff"
"""How an IPv6 address begins that stands for an IPv4 one (RFC 4291, 2.5.5.2)."""


def packed(address: str) -> bytes | None:
    """Return an address as 4 or 16 bytes, one that stands for IPv4 as that; None: it is none. Brackets are no part of it."""
    try:
        if ":" not in address:
            return inet_pton(AF_INET, address)
        found = inet_pton(AF_INET6, address[1:-1] if address[:1] + address[-1:] == "[]" else address)
    except (OSError, ValueError):  # not an address; a null character or one outside of Latin-1
        return None
    return found[12:] if found.startswith(_MAPPED) else found


class Networks:
    """Some networks. Asking costs one look for each length of prefix among them."""

    __slots__ = ("_by_size",)

    def __init__(self, cidrs: Iterable[str]) -> None:
        """Hold networks; raises ValueError for what is no CIDR."""
        sizes: dict[int, dict[int, set[int]]] = {4: {}, 16: {}}
        for cidr in cidrs:
            network = ipaddress.ip_network(cidr, strict=False)
            size = network.max_prefixlen // 8
            shift = network.max_prefixlen - network.prefixlen
            sizes[size].setdefault(shift, set()).add(int(network.network_address) >> shift)
        self._by_size: Mapping[int, tuple[tuple[int, frozenset[int]], ...]] = {
            size: tuple((shift, frozenset(found)) for shift, found in shifts.items()) for size, shifts in sizes.items()
        }

    def covers(self, address: bytes) -> bool:
        """Tell whether an address, as `packed` gives it, is in one of them."""
        number = int.from_bytes(address, "big")
        return any(number >> shift in prefixes for shift, prefixes in self._by_size[len(address)])
