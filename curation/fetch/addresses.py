"""Which addresses may be asked: those of the public internet, and of networks that the recipe names.

Names are resolved once, every address they resolve to is judged, and the connection goes to an address that was judged:
a name that resolves to another one a moment later is asked where it was first.
"""

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What `is_global` takes for public, in one version of Python or another, and is not: addresses with another one inside
# (local NAT64, 6to4, Teredo, IPv4-compatible), site-local ones, and those of protocols and tests.
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/3",
            "::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2002::/16", "3fff::/20", "5f00::/16",
            "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
        ),
    )
)  # fmt: skip
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # all that a network without IPv4 resolves names of it to
# Ports of other protocols, which a request could be made to speak to (the WHATWG Fetch standard's "bad ports").
BAD_PORTS = frozenset(
    (1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
     111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
     540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
     6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080)
)  # fmt: skip


def networks(names: Sequence[str]) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, names))


def is_refused(text: str, allowed: Sequence[Network]) -> bool:
    """Whether the address (as the resolver gave it) is neither public nor in a network that is allowed."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return True
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or _translated(address) or address
    if any(address in network for network in allowed):
        return False
    return not address.is_global or address.is_multicast or any(address in network for network in _NOT_PUBLIC)


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
