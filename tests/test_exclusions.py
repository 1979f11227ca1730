"""Opt-outs: what each kind of entry covers, and that one that cannot be read is never ignored."""

import ipaddress
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.exclusions import BadExclusion, Exclusions


def parsed(*lines):
    return Exclusions.parse([line + "\n" for line in lines], "optout.txt")


def test_an_exact_name_is_a_domain_and_an_mx_host():
    exclusions = parsed("Example.COM.")
    assert exclusions.domain("example.com")
    assert exclusions.host("example.com")
    assert not exclusions.domain("www.example.com")
    assert not exclusions.host("mx.example.com")
    assert not exclusions.domain("notexample.com")
    assert not exclusions.domain("com")


def test_a_wildcard_is_the_name_and_all_below():
    exclusions = parsed("*.example.com")
    for name in ("example.com", "a.example.com", "a.b.c.example.com"):
        assert exclusions.domain(name)
        assert exclusions.host(name)
    for name in ("notexample.com", "example.com.org", "com"):
        assert not exclusions.domain(name)
        assert not exclusions.host(name)


def test_mx_entries_are_hosts_only():
    exclusions = parsed("mx:mail.example.com", "MX: *.example.net")
    assert exclusions.host("mail.example.com")
    assert not exclusions.host("a.mail.example.com")
    assert not exclusions.domain("mail.example.com")
    assert exclusions.host("example.net")
    assert exclusions.host("mx1.example.net")
    assert not exclusions.domain("mx1.example.net")


def test_names_are_compared_however_they_are_written():
    exclusions = parsed("bücher.example", "mx:mail_1.example.com")
    assert exclusions.domain("xn--bcher-kva.example")
    assert exclusions.domain("XN--Bcher-kva.Example.")
    assert exclusions.host("mail_1.example.com")


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("192.0.2.7", ["192.0.2.7", "::ffff:192.0.2.7", "64:ff9b::192.0.2.7", "2002:c000:207::1"], ["192.0.2.8"]),
        ("192.0.2.0/25", ["192.0.2.0", "192.0.2.127", "::ffff:192.0.2.1"], ["192.0.2.128", "192.0.1.255"]),
        ("192.0.2.9/24", ["192.0.2.1"], ["192.0.3.1"]),  # host bits: the whole network
        ("0.0.0.0/0", ["8.8.8.8", "2002:808:808::1"], ["2606:4700::1"]),
        ("2001:db8::/32", ["2001:db8::1", "2001:DB8:0:0:1::"], ["2001:db9::1", "192.0.2.1"]),
        ("2001:db8::1", ["2001:db8:0::1"], ["2001:db8::2"]),
        ("::ffff:192.0.2.0/120", ["192.0.2.200", "::ffff:192.0.2.1"], ["192.0.3.1"]),
        ("::ffff:192.0.2.1", ["192.0.2.1", "2002:c000:201::"], ["192.0.2.2"]),
        ("2002::/16", ["2002:808:808::1"], ["8.8.8.8"]),
    ],
)
def test_addresses_and_networks(entry, inside, outside):
    exclusions = parsed(entry)
    assert [text for text in inside if not exclusions.address(text)] == []
    assert [text for text in outside if exclusions.address(text)] == []


def test_a_text_that_is_no_address_is_an_error_and_not_an_answer():
    with pytest.raises(ValueError):
        parsed("192.0.2.7").address("mail.example.com")


def test_comments_blank_lines_and_the_mark():
    exclusions = Exclusions.parse(
        ["\ufeff# all\r\n", "\r\n", "  192.0.2.7 # asked by mail\r\n", "\t*.fe.de\t# not an address\n"], "f"
    )
    assert exclusions.address("192.0.2.7")
    assert exclusions.domain("x.fe.de")


@pytest.mark.parametrize(
    "entry",
    [
        "192.0.2.0/33",
        "192.0.2.0/255.0.255.0",
        "192.0.2",
        "192.0.2.300",
        "192.0.2.*",
        "192.0.2.1-192.0.2.9",
        "192.0.2.1 192.0.2.2",
        "192.0.2.1,192.0.2.2",
        "fe80::1%eth0/64",
        "https://example.com/",
        "postmaster@example.com",
        "@example.com",
        ".example.com",
        "*",
        "*.",
        "*example.com",
        "a.*.example.com",
        "mx:",
        "mx:192.0.2.1",
        "example.com:25",
        "exam ple.com",
        "example.com#asked",
        "b\udcfccher.example",
        "x" * 300 + ".com",
    ],
)
def test_an_entry_that_cannot_be_read_is_an_error_with_its_line(entry):
    with pytest.raises(BadExclusion) as caught:
        parsed("# head", "example.org", entry)
    assert str(caught.value).startswith("optout.txt:3: ")
    assert "\n" not in str(caught.value)


def test_two_lists_together_exclude_what_either_does_and_stay_as_they_were():
    one, other = parsed("*.a.org", "192.0.2.0/24", "mx:m.org"), parsed("b.org", "198.51.100.0/24", "mx:*.n.org")
    both = one | other
    assert both.domain("x.a.org")
    assert both.domain("b.org")
    assert both.host("m.org")
    assert both.host("x.n.org")
    assert both.address("192.0.2.1")
    assert both.address("198.51.100.1")
    assert not one.domain("b.org")
    assert not one.address("198.51.100.1")
    assert not other.address("192.0.2.1")


def test_an_empty_list_excludes_nothing():
    exclusions = Exclusions.parse([], "f")
    assert not exclusions.domain("example.org")
    assert not exclusions.host("example.org")
    assert not exclusions.address("192.0.2.1")


@settings(max_examples=200, derandomize=True)
@given(
    st.lists(st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), max_size=8),
    st.lists(st.ip_addresses(v=4), min_size=1, max_size=8),
)
def test_networks_as_the_standard_library_sees_them(networks, addresses):
    expected = [ipaddress.ip_network(network, strict=False) for network in networks]
    exclusions = parsed(*map(str, expected))
    for address in addresses + [network.network_address for network in expected]:
        assert exclusions.address(str(address)) is any(address in network for network in expected)


def test_a_hundred_thousand_entries_cost_no_more_a_question_than_a_few():
    def seconds(exclusions):
        begin = time.process_time()
        for i in range(2000):
            exclusions.domain(f"www.d{i}.example.net")
            exclusions.address(f"203.0.113.{i % 256}")
        return time.process_time() - begin

    names = [f"*.d{i}.example.org" for i in range(50_000)]
    networks = [str(ipaddress.IPv4Address(0x0B000000 + 256 * i)) + "/24" for i in range(50_000)]
    many = parsed(*names, *networks)
    few = parsed(names[0], networks[0])
    assert many.domain("www.d49999.example.org")
    assert many.address("11.0.255.7")
    assert min(seconds(many) for _ in range(3)) < 5 * min(seconds(few) for _ in range(3))
