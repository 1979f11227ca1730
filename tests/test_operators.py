"""The operator of an MX host, from the public suffix list in the package alone."""

import socket

import pytest

from scanner import operators
from scanner.operators import operator


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("aspmx.l.google.com", "google.com"),
        ("example-org.mail.protection.outlook.com", "outlook.com"),
        ("mx.example.co.uk", "example.co.uk"),
        ("mail.xn--e1aybc.xn--p1ai", "xn--e1aybc.xn--p1ai"),
        ("a.b.customer.azurewebsites.net", "customer.azurewebsites.net"),  # a private suffix
        ("mx.example.ck", "mx.example.ck"),  # wildcard rule *.ck
        ("a.www.ck", "www.ck"),  # and its exception
        ("mail.corp.lan", "corp.lan"),  # no rule: the last label is the suffix
        ("co.uk", "co.uk"),
        ("azurewebsites.net", "azurewebsites.net"),
        ("com", "com"),
        ("localhost", "localhost"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("_mx.example.com", "example.com"),
        ("", ""),
    ],
)
def test_operator(host, expected):
    assert operator(host) == expected


def test_neither_the_network_nor_a_cache_is_touched(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TLDEXTRACT_CACHE", str(tmp_path / "cache"))
    operators._extract.cache_clear()
    operator.cache_clear()
    assert operator("mx.example.co.uk") == "example.co.uk"
    assert list(tmp_path.iterdir()) == []


def test_the_memory_is_bounded():
    assert operator.cache_info().maxsize is not None
