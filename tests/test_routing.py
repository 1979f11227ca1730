"""Mail routing from DNS answers; the fake DNS is a dict, and what is asked is part of what is checked."""

import pytest

from scanner.records import Answer, AnswerStatus, MailRouting, MxHost, MxNote, Routing
from scanner.routing import RoutingBounds, route

OK, NODATA, NXDOMAIN = AnswerStatus.OK, AnswerStatus.NODATA, AnswerStatus.NXDOMAIN
EMPTY = Answer(NODATA, "NOERROR")
NONEXISTENT = Answer(NXDOMAIN, "NXDOMAIN")
SERVFAIL = Answer(AnswerStatus.FAILED, "SERVFAIL")
REFUSED = Answer(AnswerStatus.FAILED, "REFUSED")
SILENCE = Answer(AnswerStatus.NO_ANSWER, None)


def mx(*records, secure=False):
    return Answer(OK, "NOERROR", secure, "example.org", records)


def addresses(*texts, secure=False, name=""):
    return Answer(OK, "NOERROR", secure, name, texts)


class FakeDns:
    """Answers by (name, type), NXDOMAIN for all else; keeps what was asked, one list a call."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    async def __call__(self, questions):
        self.asked.append(list(questions))
        return [self.answers.get(question, NONEXISTENT) for question in questions]


async def routed(answers, bounds=RoutingBounds()):  # noqa: B008  # frozen
    dns = FakeDns({tuple(key.split()): answer for key, answer in answers.items()})
    return await route("example.org", dns, bounds), dns.asked


MX_ONLY = [[("example.org", "MX")]]
WITH_ADDRESSES = [*MX_ONLY, [("example.org", "A"), ("example.org", "AAAA")]]


async def test_mx_hosts_by_preference_then_name_with_all_addresses_asked_at_once():
    routing, asked = await routed(
        {
            "example.org MX": mx((20, "b.example.org"), (10, "z.example.org"), (10, "A.example.org")),
            "a.example.org A": addresses("192.0.2.2", "192.0.2.10"),
            "a.example.org AAAA": addresses("2001:db8::1"),
            "b.example.org A": EMPTY,
            "b.example.org AAAA": SERVFAIL,
        }
    )
    assert routing == MailRouting(
        "example.org",
        Routing.MX,
        "NOERROR",
        mx=(
            MxHost(10, "a.example.org", ("192.0.2.10", "192.0.2.2", "2001:db8::1"), "NOERROR", "NOERROR"),
            MxHost(10, "z.example.org", (), "NXDOMAIN", "NXDOMAIN"),
            MxHost(20, "b.example.org", (), "NOERROR", "SERVFAIL"),
        ),
    )
    hosts = ["a.example.org", "z.example.org", "b.example.org"]
    assert asked == [*MX_ONLY, [(host, rdtype) for host in hosts for rdtype in ("A", "AAAA")]]


@pytest.mark.parametrize(
    ("answer", "routing", "rcode"),
    [
        (NONEXISTENT, Routing.NONE, "NXDOMAIN"),
        (SERVFAIL, Routing.ERROR, "SERVFAIL"),
        (REFUSED, Routing.ERROR, "REFUSED"),
        (SILENCE, Routing.ERROR, None),
    ],
)
async def test_without_an_mx_answer_no_addresses_are_asked(answer, routing, rcode):
    found, asked = await routed({"example.org MX": answer})
    assert found == MailRouting("example.org", routing, rcode)
    assert asked == MX_ONLY


@pytest.mark.parametrize(
    ("a", "aaaa", "routing"),
    [
        (addresses("192.0.2.1"), EMPTY, Routing.IMPLICIT_MX),
        (EMPTY, addresses("2001:db8::1"), Routing.IMPLICIT_MX),
        (addresses("192.0.2.1"), SERVFAIL, Routing.IMPLICIT_MX),
        (EMPTY, EMPTY, Routing.NONE),
        (NONEXISTENT, EMPTY, Routing.NONE),
        (SERVFAIL, EMPTY, Routing.ERROR),
        (EMPTY, SILENCE, Routing.ERROR),
        (SILENCE, SILENCE, Routing.ERROR),
    ],
)
async def test_without_mx_records_the_domain_itself_may_be_the_host(a, aaaa, routing):
    found, asked = await routed({"example.org MX": EMPTY, "example.org A": a, "example.org AAAA": aaaa})
    assert (found.routing, found.rcode) == (routing, "NOERROR")
    assert asked == WITH_ADDRESSES
    if routing is Routing.IMPLICIT_MX:
        assert found.mx == (MxHost(0, "example.org", (*a.data, *aaaa.data), a.rcode, aaaa.rcode),)
    else:
        assert found.mx == ()


@pytest.mark.parametrize("records", [[(0, "")], [(10, "")], [(0, ".")], [(0, ""), (5, "")]])
async def test_null_mx_whatever_its_preference(records):
    found, asked = await routed({"example.org MX": mx(*records, secure=True)})
    assert found == MailRouting("example.org", Routing.NULL_MX, "NOERROR", authenticated=True)
    assert asked == MX_ONLY


async def test_a_null_mx_beside_others_is_dropped_and_noted_on_them():
    found, asked = await routed({"example.org MX": mx((0, ""), (10, "a.org"), (20, "b_.c-.org"))})
    assert found.routing is Routing.MX
    assert [(host.host, host.notes) for host in found.mx] == [
        ("a.org", (MxNote.NULL_MX_IGNORED,)),
        ("b_.c-.org", (MxNote.NULL_MX_IGNORED, MxNote.BAD_NAME)),
    ]
    assert asked[1] == [("a.org", "A"), ("a.org", "AAAA")]


async def test_an_alias_is_followed_and_the_host_keeps_the_name_of_the_record():
    found, _ = await routed(
        {
            "example.org MX": mx((10, "mail.example.org")),
            "mail.example.org A": addresses("192.0.2.1", name="real.example.net"),
            "mail.example.org AAAA": Answer(NODATA, "NOERROR", canonical_name="real.example.net"),
        }
    )
    (host,) = found.mx
    assert (host.host, host.addresses, host.notes) == ("mail.example.org", ("192.0.2.1",), (MxNote.CNAME,))


async def test_an_alias_that_leads_nowhere_is_noted_too():
    dangling = Answer(NXDOMAIN, "NXDOMAIN", canonical_name="gone.example.net")
    found, _ = await routed({"example.org MX": mx((10, "m.org")), "m.org A": dangling, "m.org AAAA": dangling})
    assert found.mx == (MxHost(10, "m.org", (), "NXDOMAIN", "NXDOMAIN", notes=(MxNote.CNAME,)),)


@pytest.mark.parametrize(
    "exchange",
    ["192.0.2.1", "[192.0.2.1]", "2001:db8::1", "[2001:db8::1]", "[IPv6:2001:db8::1]", "999.0.2.1"],
)
async def test_an_exchange_written_as_an_address_is_not_looked_up(exchange):
    found, asked = await routed({"example.org MX": mx((10, exchange))})
    assert found.mx == (MxHost(10, exchange.lower(), notes=(MxNote.ADDRESS_LITERAL,)),)
    assert asked == MX_ONLY


@pytest.mark.parametrize(
    "exchange",
    [
        "mail server.org",
        "mail\\032server.org",
        "-mail.org",
        "mail-.org",
        "mail..org",
        "http://mail.org",
        "mail\\.org.net",
        "mail.10",
        "*.org",
        "x" * 64 + ".org",
        "x." * 127 + "org",
        "bücher.example",
    ],
)
async def test_an_exchange_that_cannot_be_a_host_name_is_not_looked_up(exchange):
    found, asked = await routed({"example.org MX": mx((10, exchange))})
    assert [host.notes for host in found.mx] == [(MxNote.BAD_NAME,)]
    assert asked == MX_ONLY


@pytest.mark.parametrize(
    "exchange", ["_mail.example.org", "mail_1.org", "localhost", "xn--bcher-kva.example", "1.a"]
)
async def test_exchanges_that_are_looked_up(exchange):
    found, asked = await routed({"example.org MX": mx((10, exchange))})
    assert asked[1:] == [[(exchange, "A"), (exchange, "AAAA")]]
    assert found.mx[0].notes == ()


async def test_one_exchange_with_several_preferences_is_kept_once_with_the_lowest():
    found, asked = await routed({"example.org MX": mx((30, "m.org"), (10, "M.org"), (20, "m.org."))})
    assert [(host.preference, host.host) for host in found.mx] == [(10, "m.org")]
    assert asked[1] == [("m.org", "A"), ("m.org", "AAAA")]


async def test_a_thousand_mx_are_cut_to_the_bound_and_noted():
    records = [(1000 - i, f"m{i}.org") for i in range(1000)]
    found, asked = await routed({"example.org MX": mx(*records)})
    assert [host.host for host in found.mx] == [f"m{i}.org" for i in range(999, 949, -1)]
    assert {host.notes for host in found.mx} == {(MxNote.TRUNCATED,)}
    assert len(asked[1]) == 100


async def test_addresses_beyond_the_bound_are_dropped_ipv4_first_and_noted_on_that_host():
    found, _ = await routed(
        {
            "example.org MX": mx((1, "many.org"), (2, "few.org")),
            "many.org A": addresses("192.0.2.3", "192.0.2.1", "192.0.2.1"),
            "many.org AAAA": addresses("2001:db8::2", "2001:db8::1"),
            "few.org A": addresses("192.0.2.1", "192.0.2.2", "192.0.2.3"),
        },
        RoutingBounds(mx=2, addresses=3),
    )
    many, few = found.mx
    assert (many.addresses, many.notes) == (("192.0.2.1", "192.0.2.3", "2001:db8::1"), (MxNote.TRUNCATED,))
    assert (len(few.addresses), few.notes) == (3, ())


SECURE_EMPTY = Answer(NODATA, "NOERROR", authenticated=True)


@pytest.mark.parametrize(
    ("a", "aaaa", "authenticated"),
    [
        (addresses("192.0.2.1", secure=True), SECURE_EMPTY, True),
        (addresses("192.0.2.1", secure=True), EMPTY, False),
        (addresses("192.0.2.1"), SECURE_EMPTY, False),
        (addresses("192.0.2.1", secure=True), SERVFAIL, True),
        (SERVFAIL, SILENCE, False),
    ],
)
async def test_authenticated_of_a_host_is_that_of_all_its_answers(a, aaaa, authenticated):
    found, _ = await routed({"example.org MX": mx((1, "m.org"), secure=True), "m.org A": a, "m.org AAAA": aaaa})
    assert found.authenticated
    assert found.mx[0].authenticated is authenticated


@pytest.mark.parametrize("secure", [True, False])
async def test_authenticated_of_an_implicit_mx_is_that_of_the_addresses(secure):
    found, _ = await routed(
        {
            "example.org MX": SECURE_EMPTY,
            "example.org A": addresses("192.0.2.1", secure=secure),
            "example.org AAAA": SECURE_EMPTY,
        }
    )
    assert found.authenticated is secure
    assert found.mx[0].authenticated is secure
