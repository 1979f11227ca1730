"""The lab itself: the real servers do what the table says, by openssl's and dnspython's word."""

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
import world

from lab.mta.listener import Asks

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-real")]


@pytest.mark.parametrize("row", world.ROWS, ids=lambda row: row.label)
def test_a_server_shows_what_it_was_told_to(row, servers, second_opinion):
    before = len(servers.visits(row.label))
    opinion = second_opinion(servers.address(row.label), servers.port, row.host)
    assert opinion.certificate_list == servers.certificate_list(row.label)
    assert opinion.tls_version == row.tls_version
    assert opinion.requested == (row.tls and row.asks is not Asks.NO)
    assert opinion.ca_names == (("CN=Private Root",) if opinion.requested else ())
    visits = servers.visits(row.label, least=before + 1)[before:]
    assert [visit.ehlo_names[0] for visit in visits] == ["second-opinion.test"]


def ask(names, name, rdtype):
    query = dns.message.make_query(name, rdtype)
    query.flags |= dns.flags.AD
    address, port = names.resolver
    answer, _ = dns.query.udp_with_fallback(query, address, timeout=5, port=port)
    return dns.rcode.to_text(answer.rcode()), bool(answer.flags & dns.flags.AD)


def test_the_resolver_validates(names, domain_table):
    for domain in domain_table.values():
        assert ask(names, domain.name, "MX") == (domain.rcode, domain.authenticated), domain.name
    assert "validation failure <bogus.test. MX IN>" in names.log.read_text()


def test_the_resolver_knows_nothing_but_the_lab(names):
    assert ask(names, "example.com", "MX") == ("SERVFAIL", False)
