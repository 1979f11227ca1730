"""Canonical text, and which addresses are not globally reachable; Python's own tables are the second opinion."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.addresses import (
    IPV4_SPECIAL,
    IPV6_SPECIAL,
    OWN,
    canonical,
    embedded_ipv4,
    ipv4_text,
    ipv6_text,
    special_purpose,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:db8:0:0:1:0:0:0", "2001:db8:0:0:1::"),
        ("::ffff:c000:201", "::ffff:192.0.2.1"),
        ("0:0:0:0:0:0:0:0", "::"),
    ],
)
def test_canonical(text, expected):
    assert canonical(text) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    "text", ["", "192.0.2", "192.0.2.01", "192.0.2.1/32", "example.org", "fe80::1%eth0", "[::1]"]
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError):
        canonical(text)
    with pytest.raises(ValueError):
        special_purpose(text)


@settings(max_examples=100, derandomize=True)
@given(st.binary(min_size=16, max_size=16))
def test_text_from_octets_is_canonical(packed):
    assert ipv6_text(packed) == canonical(str(ipaddress.IPv6Address(packed)))
    assert ipv4_text(packed[:4]) == str(ipaddress.IPv4Address(packed[:4]))


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("0.1.2.3", "This network"),
        ("10.255.255.255", "Private-Use"),
        ("100.64.0.1", "Shared Address Space"),
        ("100.128.0.0", None),
        ("127.0.0.1", "Loopback"),
        ("169.254.169.254", "Link Local"),
        ("172.15.255.255", None),
        ("172.31.255.255", "Private-Use"),
        ("192.0.0.1", "IPv4 Service Continuity Prefix"),
        ("192.0.0.8", "IPv4 dummy address"),
        ("192.0.0.9", None),
        ("192.0.0.10", None),
        ("192.0.0.11", "IETF Protocol Assignments"),
        ("192.0.0.171", "NAT64/DNS64 Discovery"),
        ("192.0.1.1", None),
        ("192.31.196.1", None),  # AS112-v4, globally reachable
        ("192.88.99.1", "Deprecated (6to4 Relay Anycast)"),
        ("198.17.255.255", None),
        ("198.19.255.255", "Benchmarking"),
        ("203.0.113.9", "Documentation (TEST-NET-3)"),
        ("224.0.0.1", "Multicast"),
        ("239.255.255.255", "Multicast"),
        ("240.0.0.1", "Reserved"),
        ("255.255.255.255", "Limited Broadcast"),
        ("8.8.8.8", None),
        ("::", "Unspecified Address"),
        ("::1", "Loopback Address"),
        ("::2", "Reserved by IETF"),
        ("::8.8.8.8", "Reserved by IETF"),
        ("::ffff:8.8.8.8", None),
        ("::ffff:127.0.0.1", "Loopback"),
        ("::ffff:192.168.1.1", "Private-Use"),
        ("64:ff9b::8.8.8.8", None),
        ("64:ff9b::10.0.0.1", "Private-Use"),
        ("64:ff9b:0:1::1", "Reserved by IETF"),
        ("64:ff9b:1::8.8.8.8", "IPv4-IPv6 Translation (local use)"),
        ("100::1", "Discard-Only Address Block"),
        ("100:0:0:1::1", "Dummy IPv6 Prefix"),
        ("2001::1", "TEREDO"),
        ("2001:1::1", None),
        ("2001:1::4", "IETF Protocol Assignments"),
        ("2001:2::1", "Benchmarking"),
        ("2001:2:1::1", "IETF Protocol Assignments"),
        ("2001:3::1", None),
        ("2001:4:112::1", None),
        ("2001:10::1", "Deprecated (previously ORCHID)"),
        ("2001:20::1", None),
        ("2001:30::1", None),
        ("2001:200::1", None),
        ("2001:db8::1", "Documentation"),
        ("2002:808:808::1", None),
        ("2002:a00:1::1", "Private-Use"),
        ("2002:7f00:1::", "Loopback"),
        ("2606:4700::1111", None),
        ("3ffe::1", None),
        ("3fff:fff::1", "Documentation"),
        ("3fff:1000::1", None),
        ("4000::1", "Reserved by IETF"),
        ("5f00::1", "Segment Routing (SRv6) SIDs"),
        ("fc00::1", "Unique-Local"),
        ("fdff::1", "Unique-Local"),
        ("fe80::1", "Link-Local Unicast"),
        ("febf::1", "Link-Local Unicast"),
        ("fec0::1", "Deprecated (Site-Local)"),
        ("ff02::1", "Multicast"),
    ],
)
def test_special_purpose(text, entry):
    assert special_purpose(text) == entry


REACHABLE = [
    ipaddress.ip_network(block)
    for block, name in {**IPV4_SPECIAL, **IPV6_SPECIAL}.items()
    if name is None and block != "2000::/3"
]


@settings(max_examples=500, derandomize=True)
@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_python_calls_not_global_is_not_contacted(address):
    """Hypothesis draws from special blocks often. Python's tables are older, so the converse need not hold."""
    if not any(address in block for block in REACHABLE) and embedded_ipv4(address) is None:
        unusable = not address.is_global or address.is_multicast or address.is_unspecified
        assert special_purpose(str(address)) is not None or not unusable


def test_own_addresses_are_never_contacted():
    own = {"192.31.196.7", "2606:4700::7"}
    assert special_purpose("192.31.196.7", own) == OWN
    assert special_purpose("::ffff:192.31.196.7", own) == OWN
    assert special_purpose("2606:4700:0::7", own) == OWN
    assert special_purpose("192.31.196.8", own) is None
    assert special_purpose("127.0.0.1", own) == "Loopback"
