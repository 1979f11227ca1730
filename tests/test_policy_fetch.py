"""The HTTPS edge against scripted servers on real sockets: failures are values, time and size are bounded."""

import asyncio
import random
import socket
import time
from datetime import UTC, datetime

import pytest

from lab.authority import Authority
from lab.https import BEHAVIOURS, PolicyHost, PolicyServers
from lab.issue import Leaf
from lab.mta.process import loopback_prefix
from lab.sts import STS, Sts
from scanner.certificates import parse
from scanner.mta_sts import MOST_BYTES
from scanner.policy_fetch import Fetcher
from scanner.policy_records import PolicyFailure, StsMode

DOMAIN = "example.org"
BODY = b"version: STSv1\nmode: enforce\nmx: mx.example.org\nmax_age: 86400\n"


@pytest.fixture(scope="module")
def authority():
    return Authority()


def served(authority, behaviour="good", body=BODY, leaf=Leaf(), address=None):  # noqa: B008  # frozen
    """A server for one policy host on a free port of an address of its own: (servers, address, port)."""
    address = address or f"{loopback_prefix()}.9"
    host = PolicyHost(f"mta-sts.{DOMAIN}", address, Sts("", behaviour=behaviour, leaf=leaf), body)
    for _ in range(20):
        port = random.SystemRandom().randrange(20000, 32000)
        try:
            return PolicyServers([host], authority, port), address, port
        except OSError:
            continue
    raise AssertionError("no free port")


async def fetch(authority, seconds=10.0, **how):
    servers, address, port = served(authority, **how)
    with servers:
        found = await asked(authority, address, port, seconds)
    return found, servers.requests


async def asked(authority, address, port, seconds=10.0):
    roots = [parse(authority.roots["everywhere"].der)]
    async with Fetcher(
        roots, timeout=seconds, user_agent="tests/1 (ü\r\nX: y)", now=lambda: datetime.now(UTC), port=port
    ) as fetcher:
        found = await fetcher.fetch(DOMAIN, address)
    await asyncio.sleep(0.05)  # for the loop to close what was cut off
    return found


@pytest.mark.parametrize("behaviour", ["good", "chunked"])
async def test_a_policy(authority, behaviour):
    found, (request,) = await fetch(authority, behaviour=behaviour)
    assert (found.failure, found.status, found.detail) == (None, 200, "")
    assert (found.mode, found.max_age, found.mx) == (StsMode.ENFORCE, 86400, ("mx.example.org",))
    assert found.text == BODY.decode()
    assert request.line == "GET /.well-known/mta-sts.txt HTTP/1.1"
    assert request.server_name == "mta-sts.example.org"
    assert request.host.startswith("mta-sts.example.org:")
    assert request.agent == "tests/1 (???x: y)"


FAILURES = [
    (plan.behaviour, plan.leaf, plan.body, plan.failure)
    for plan in STS.values()
    if plan.failure and plan.behaviour not in ("nowhere", "refused")
]


@pytest.mark.parametrize(("behaviour", "leaf", "body", "failure"), FAILURES)
async def test_failures(authority, behaviour, leaf, body, failure):
    found, requests = await fetch(authority, behaviour=behaviour, leaf=leaf, body=body.encode())
    assert found.failure == failure
    assert found.detail
    assert found.mode is None
    assert len(requests) == 1


async def test_nobody_listens(authority):
    servers, address, port = served(authority)
    with servers:
        pass
    found = await asked(authority, address, port)
    assert found.failure is PolicyFailure.REFUSED


async def test_an_address_that_cannot_be_reached(authority):
    found = await asked(authority, "2001:db8::1", 443, seconds=2)
    assert found.failure in (PolicyFailure.UNREACHABLE, PolicyFailure.LOCAL, PolicyFailure.TIMEOUT)


@pytest.mark.parametrize("size", [MOST_BYTES, MOST_BYTES + 1])
async def test_the_bound_on_the_body(authority, size):
    body = BODY + b"x: " + b"y" * (size - len(BODY) - 4) + b"\n"
    found, _ = await fetch(authority, body=body)
    assert found.failure is (None if size == MOST_BYTES else PolicyFailure.TOO_LARGE)


@pytest.mark.parametrize("moment", ["handshake", "response", "body"])
async def test_one_timeout_bounds_it_all(authority, moment, monkeypatch):
    """Silence before TLS, before the response, and a body that never ends, an octet at a time."""
    monkeypatch.setitem(BEHAVIOURS, "silent", lambda _send, _body: time.sleep(1.5))
    monkeypatch.setitem(BEHAVIOURS, "dribbles", dribble)
    if moment == "handshake":
        server = socket.create_server((f"{loopback_prefix()}.10", 0))  # the kernel connects, and nobody accepts
        address, port = server.getsockname()
        began = time.monotonic()
        found = await asked(authority, address, port, seconds=0.5)
        server.close()
    else:
        began = time.monotonic()
        how = {"response": "silent", "body": "dribbles"}[moment]
        found, _ = await fetch(authority, seconds=0.5, behaviour=how)
    assert found.failure is PolicyFailure.TIMEOUT
    assert time.monotonic() - began < 5


def dribble(send, _body):
    send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    for _ in range(200):
        send(b"x")
        time.sleep(0.02)


async def test_no_proxy_is_asked(authority, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    found, _ = await fetch(authority)
    assert found.failure is None


async def test_many_at_once_do_not_share_a_connection(authority):
    servers, address, port = served(authority)
    with servers:
        roots = [parse(authority.roots["everywhere"].der)]
        async with Fetcher(roots, timeout=10, user_agent="x", now=lambda: datetime.now(UTC), port=port) as fetcher:
            found = await asyncio.gather(*(fetcher.fetch(DOMAIN, address) for _ in range(10)))
    assert {policy.failure for policy in found} == {None}
    assert len(servers.requests) == 10
