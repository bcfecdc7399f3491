"""Networks as they are written: CIDRs, and addresses where those are taken too."""

import ipaddress
import re

NETWORK_HINT = "a network such as 10.0.0.0/8 or fd00::/8 would be accepted."
ADDRESS_HINT = "networks such as 10.0.0.0/8 and addresses, separated by commas, would be accepted."

_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}")
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def parse_network(text: str, *, bare: bool = False) -> str | None:
    """Return a CIDR in its one way of writing, without what its prefix does not cover; None: it is none.

    `bare`: an address alone is a network of one. IPv4 written as IPv6 is none: clients are compared as what they are.
    """
    address, slash, prefix = text.partition("/")
    if (not slash and not bare) or (slash and _PREFIX.fullmatch(prefix) is None) or "%" in address:
        return None
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96 and network.subnet_of(_MAPPED):
        return None
    return str(network)
