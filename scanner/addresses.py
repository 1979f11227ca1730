"""Addresses: their canonical text, and which of them are nobody's mail server.

The tables are the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its successors), multicast
and reserved space, as of 2026-11-24: blocks that are not globally reachable, with the exceptions inside them that
are. An IPv6 address that embeds an IPv4 one (mapped, NAT64, 6to4) is judged by it too.
"""

import ipaddress
from types import MappingProxyType

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SPECIAL_PURPOSE = MappingProxyType(
    {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private use",
        "100.64.0.0/10": "shared address space",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link local",
        "172.16.0.0/12": "private use",
        "192.0.0.0/24": "IETF protocol assignments",
        "192.0.2.0/24": "documentation (TEST-NET-1)",
        "192.88.99.0/24": "deprecated 6to4 relay anycast",
        "192.168.0.0/16": "private use",
        "198.18.0.0/15": "benchmarking",
        "198.51.100.0/24": "documentation (TEST-NET-2)",
        "203.0.113.0/24": "documentation (TEST-NET-3)",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved, limited broadcast",
        "::/128": "unspecified",
        "::1/128": "loopback",
        "::ffff:0:0/96": "IPv4-mapped",
        "64:ff9b:1::/48": "local-use IPv4/IPv6 translation",
        "100::/64": "discard only",
        "100:0:0:1::/64": "dummy prefix",
        "2001::/23": "IETF protocol assignments",
        "2001:db8::/32": "documentation",
        "3fff::/20": "documentation",
        "5f00::/16": "segment routing SIDs",
        "fc00::/7": "unique local",
        "fe80::/10": "link local",
        "fec0::/10": "deprecated site local",
        "ff00::/8": "multicast",
    }
)
GLOBALLY_REACHABLE = (
    "192.0.0.9/32",  # Port Control Protocol anycast
    "192.0.0.10/32",  # TURN anycast
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:3::/32",  # AMT
    "2001:4:112::/48",  # AS112-v6
    "2001:20::/28",  # ORCHIDv2
    "2001:30::/28",  # drone remote identification
)

_SPECIAL = tuple((ipaddress.ip_network(block), name) for block, name in SPECIAL_PURPOSE.items())
_REACHABLE = tuple(ipaddress.ip_network(block) for block in GLOBALLY_REACHABLE)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def canonical(text: str) -> str:
    """The canonical text of an address (RFC 5952). Raises ValueError for anything else."""
    return str(ipaddress.ip_address(text))


def embedded_ipv4(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv4-mapped, NAT64 (RFC 6052) or 6to4 (RFC 3056) address."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def special_purpose(text: str) -> str | None:
    """The registry entry that makes an address special; None for one that is globally reachable."""
    address = ipaddress.ip_address(text)
    inner = embedded_ipv4(address)
    return _entry(address) or (_entry(inner) if inner is not None else None)


def _entry(address: Address) -> str | None:
    if any(address in network for network in _REACHABLE if network.version == address.version):
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return "an address with a zone"
    return next((name for network, name in _SPECIAL if address in network), None)
