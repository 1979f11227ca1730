"""Addresses: their canonical text, and which of them are nobody's mail server.

The tables are this module's own rendering of the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890,
RFC 8190 and what was registered since), plus multicast (RFC 5771, RFC 4291) and, for IPv6, all that IANA holds back
outside 2000::/3. The longest prefix that fits decides. An IPv6 address that embeds an IPv4 one is judged by it.
"""

import ipaddress
from collections.abc import Collection
from functools import lru_cache
from types import MappingProxyType

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PREFIX_BITS = MappingProxyType({4: 24, 6: 48})
"""What is commonly one network of one site: the shortest prefix of each version that is routed by itself."""

REGISTRY_DATE = "2026-11-24"
"""The state of the registries that the tables show."""

IPV4_SPECIAL = MappingProxyType(
    {
        "0.0.0.0/8": "This network",
        "10.0.0.0/8": "Private-Use",
        "100.64.0.0/10": "Shared Address Space",
        "127.0.0.0/8": "Loopback",
        "169.254.0.0/16": "Link Local",
        "172.16.0.0/12": "Private-Use",
        "192.0.0.0/24": "IETF Protocol Assignments",
        "192.0.0.0/29": "IPv4 Service Continuity Prefix",
        "192.0.0.8/32": "IPv4 dummy address",
        "192.0.0.9/32": None,  # Port Control Protocol Anycast, globally reachable
        "192.0.0.10/32": None,  # TURN Anycast, globally reachable
        "192.0.0.170/31": "NAT64/DNS64 Discovery",
        "192.0.2.0/24": "Documentation (TEST-NET-1)",
        "192.88.99.0/24": "Deprecated (6to4 Relay Anycast)",
        "192.168.0.0/16": "Private-Use",
        "198.18.0.0/15": "Benchmarking",
        "198.51.100.0/24": "Documentation (TEST-NET-2)",
        "203.0.113.0/24": "Documentation (TEST-NET-3)",
        "224.0.0.0/4": "Multicast",
        "240.0.0.0/4": "Reserved",
        "255.255.255.255/32": "Limited Broadcast",
    }
)
"""Block: the name of its entry, None for a block inside another that is globally reachable."""

IPV6_SPECIAL = MappingProxyType(
    {
        "::/0": "Reserved by IETF",  # only 2000::/3 is global unicast (IPv6 Address Space registry)
        "2000::/3": None,
        "::/128": "Unspecified Address",
        "::1/128": "Loopback Address",
        "::ffff:0:0/96": None,  # IPv4-mapped Address: judged by the IPv4 address
        "64:ff9b::/96": None,  # IPv4-IPv6 Translation: judged by the IPv4 address
        "64:ff9b:1::/48": "IPv4-IPv6 Translation (local use)",
        "100::/64": "Discard-Only Address Block",
        "100:0:0:1::/64": "Dummy IPv6 Prefix",
        "2001::/23": "IETF Protocol Assignments",
        "2001::/32": "TEREDO",
        "2001:1::1/128": None,  # Port Control Protocol Anycast
        "2001:1::2/128": None,  # TURN Anycast
        "2001:1::3/128": None,  # DNS-SD Service Registration Protocol Anycast
        "2001:2::/48": "Benchmarking",
        "2001:3::/32": None,  # AMT
        "2001:4:112::/48": None,  # AS112-v6
        "2001:10::/28": "Deprecated (previously ORCHID)",
        "2001:20::/28": None,  # ORCHIDv2
        "2001:30::/28": None,  # Drone Remote ID Protocol Entity Tags
        "2001:db8::/32": "Documentation",
        "3fff::/20": "Documentation",
        "5f00::/16": "Segment Routing (SRv6) SIDs",
        "fc00::/7": "Unique-Local",
        "fe80::/10": "Link-Local Unicast",
        "fec0::/10": "Deprecated (Site-Local)",
        "ff00::/8": "Multicast",
    }
)
"""As `IPV4_SPECIAL`; 2002::/16 (6to4) is judged by the IPv4 address."""

OWN = "this machine's own address"

_NAT64 = 0x0064FF9B << 64  # 64:ff9b::/96 without its last 32 bits (RFC 6052)


def parse(text: str) -> Address:
    """The address that a text is; raises ValueError for anything else, and for an address with a zone."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{text!r}: an address with a zone names no host on the Internet")
    return address


def canonical(text: str) -> str:
    """The canonical text of an address (RFC 5952; IPv4-mapped in mixed notation, its section 5).

    Raises ValueError for anything that is no address, and for an address with a zone.
    """
    return _text(parse(text))


def ipv4_text(packed: bytes) -> str:
    """The text of 4 octets."""
    return "{}.{}.{}.{}".format(*packed)


def ipv6_text(packed: bytes) -> str:
    """The canonical text of 16 octets."""
    return _text(ipaddress.IPv6Address(packed))


def embedded_ipv4(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv4-mapped, NAT64 (RFC 6052) or 6to4 (RFC 3056) address."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if int(address) >> 32 == _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def network_prefix(text: str) -> str:
    """The /24 or /48 that an address is in; that of the IPv4 address where one is embedded.

    Raises ValueError for text that is no address.
    """
    address = parse(text)
    address = embedded_ipv4(address) or address
    return str(ipaddress.ip_network((address, PREFIX_BITS[address.version]), strict=False))


def special_purpose(text: str, own_addresses: Collection[str] = ()) -> str | None:
    """The registry entry that makes an address not globally reachable; None for one that may be contacted.

    `own_addresses` are this machine's, as canonical text: contacting them measures nobody. Raises ValueError for
    text that is no address.
    """
    address = parse(text)
    inner = embedded_ipv4(address)
    entry = _entry(address) or (_entry(inner) if inner is not None else None)
    if entry is not None:
        return entry
    own = _text(address) in own_addresses or (inner is not None and str(inner) in own_addresses)
    return OWN if own else None


def _text(address: Address) -> str:
    # Python writes IPv4-mapped addresses in two ways, by its version.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(address) if mapped is None else f"::ffff:{mapped}"


def _entry(address: Address) -> str | None:
    number, bits = int(address), address.max_prefixlen
    for length, names in _tables()[address.version]:
        prefix = number >> (bits - length)
        if prefix in names:
            return names[prefix]
    return None


@lru_cache(maxsize=1)
def _tables() -> dict[int, list[tuple[int, dict[int, str | None]]]]:
    """By IP version: (prefix length, {prefix: name}), longest prefix first."""
    tables: dict[int, dict[int, dict[int, str | None]]] = {4: {}, 6: {}}
    for blocks in (IPV4_SPECIAL, IPV6_SPECIAL):
        for block, name in blocks.items():
            network = ipaddress.ip_network(block)
            shift = network.max_prefixlen - network.prefixlen
            tables[network.version].setdefault(network.prefixlen, {})[int(network.network_address) >> shift] = name
    return {version: sorted(table.items(), reverse=True) for version, table in tables.items()}
