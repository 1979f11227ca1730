"""`observe` against real Postfix and Exim: one connection each, the configured truth, openssl's certificates."""

import asyncio
import datetime as dt

import openssl
import pytest
import world

from scanner.records import Endpoint, Stage, Status
from scanner.session import SessionSettings, observe

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-real")]

EHLO_NAME = "census.example.net"
SETTINGS = SessionSettings(ehlo_name=EHLO_NAME)
PRIVATE_ROOT = "CN=Private Root"


def now():
    return dt.datetime.now(dt.UTC)


async def contact(servers, row):
    """One observation, and what the server logged of it."""
    before = len(servers.visits(row.label))
    endpoint = Endpoint(row.host, servers.address(row.label), servers.port)
    observation = await observe(endpoint, 1, SETTINGS, now)
    # In a thread: the loop has to run for our side to be closed, which some servers wait for.
    visits = await asyncio.to_thread(servers.visits, row.label, before + 1)
    return observation, visits[before:]


@pytest.mark.parametrize("row", world.ROWS, ids=lambda row: row.label)
async def test_what_is_observed_is_what_was_configured(row, servers):
    observation, visits = await contact(servers, row)
    assert observation.client_auth == row.client_auth, observation.detail
    assert observation.certificate_list == servers.certificate_list(row.label)
    assert observation.tls_version == row.tls_version
    assert observation.starttls_offered is row.tls
    assert observation.status is (Status.MEASURED if row.tls else Status.FAILED)
    assert row.host in observation.greeting
    assert len(visits) == 1
    assert set(visits[0].ehlo_names) == {EHLO_NAME}
    if row.client_auth != "required":
        assert visits[0].quit
        assert len(visits[0].ehlo_names) == (2 if row.tls else 1)
        assert observation.stage is (Stage.QUIT if row.tls else Stage.EHLO)


@pytest.mark.parametrize("row", world.MODES, ids=lambda row: row.label)
async def test_the_certificate_request_has_its_names(row, servers):
    observation, _ = await contact(servers, row)
    subject = servers.private.root.subject.public_bytes()
    assert observation.client_ca_names == (None if row.client_auth == "not-requested" else (subject,))


@pytest.mark.parametrize("row", world.ROWS, ids=lambda row: row.label)
async def test_openssl_sees_the_same(row, servers, second_opinion):
    observation, _ = await contact(servers, row)
    opinion: openssl.Opinion = second_opinion(servers.address(row.label), servers.port, row.host)
    assert observation.certificate_list == opinion.certificate_list
    assert observation.tls_version == opinion.tls_version
    assert (observation.client_ca_names is not None) == opinion.requested


async def test_ipv6(servers):
    if not world.has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    observation, visits = await contact(servers, world.SIX)
    assert observation.failure is None
    assert observation.certificate_list == servers.certificate_list(world.SIX.label)
    assert len(visits) == 1
