"""`Resolver` and `route` through a real, validating Unbound in front of a real NSD."""

import pytest
import world

from scanner.records import AnswerStatus, MxNote
from scanner.resolver import Resolver
from scanner.routing import DEFAULT_BOUNDS, route

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-real")]


async def routed(names, domain):
    async with Resolver([names.resolver]) as resolver:
        return await route(domain, resolver.query_many)


async def test_every_domain_of_the_table(names, domain_table):
    async with Resolver([names.resolver]) as resolver:
        for name, domain in domain_table.items():
            found = await route(name, resolver.query_many)
            assert (found.routing, found.rcode, found.authenticated) == (
                domain.routing,
                domain.rcode,
                domain.authenticated,
            ), name
            assert tuple(mx.host for mx in found.mx) == tuple(host for _, host in domain.mx), name
            assert {note for mx in found.mx for note in mx.notes} == set(domain.notes), name


async def test_hosts_have_their_addresses_and_say_whether_they_were_validated(names, servers):
    found = await routed(names, "two.lab.test")
    assert [(mx.addresses, mx.authenticated, mx.rcode_a, mx.rcode_aaaa) for mx in found.mx] == [
        ((servers.address(label),), True, "NOERROR", "NOERROR") for label in ("exim-default", "postfix-default")
    ]
    (unsigned,) = (await routed(names, "plain.test")).mx
    assert (unsigned.addresses, unsigned.authenticated) == ((servers.address("postfix-plain"),), False)


async def test_ipv6_addresses(names, servers):
    if world.SIX.label not in servers.rows:
        pytest.skip("this machine has no IPv6 loopback")
    (six,) = (await routed(names, world.SIX.domain)).mx
    assert six.addresses == ("::1",)


async def test_an_alias_is_followed(names, servers):
    (mx,) = (await routed(names, "alias-mx.lab.test")).mx
    assert (mx.addresses, mx.notes) == ((servers.address("postfix-default"),), (MxNote.CNAME,))


async def test_a_large_set_comes_over_tcp(names):
    async with Resolver([names.resolver]) as resolver:
        answer = await resolver.query("many.lab.test", "MX")
        many = await route("many.lab.test", resolver.query_many)
    assert answer.status is AnswerStatus.OK
    assert answer.authenticated
    assert len(answer.data) == world.LARGE
    assert len(many.mx) == DEFAULT_BOUNDS.mx
    assert {(mx.rcode_a, mx.notes) for mx in many.mx} == {("NXDOMAIN", (MxNote.TRUNCATED,))}


async def test_what_does_not_validate_is_never_answered(names):
    async with Resolver([names.resolver]) as resolver:
        answer = await resolver.query("bogus.test", "MX")
    assert (answer.status, answer.rcode, answer.data) == (AnswerStatus.FAILED, "SERVFAIL", ())
