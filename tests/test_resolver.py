"""The resolver against real sockets: servers that answer, fail, lie, loop, flood and stay silent."""

import asyncio
import socket
import time

import dns.flags
import dns.message
import dns.resolver
import pytest
import uvloop
from dnsfake import FakeServer, answer, framed

from scanner import resolver as module
from scanner.dnsserver import NoResolver
from scanner.records import Answer, AnswerStatus
from scanner.resolver import Resolver, servers_from_system

NO_ANSWER = Answer(AnswerStatus.NO_ANSWER, None)
A = "host.example. A 192.0.2.1"
FOUND = Answer(AnswerStatus.OK, "NOERROR", canonical_name="host.example", data=("192.0.2.1",))
SERVFAIL, REFUSED, NXDOMAIN = 2, 5, 3


def always(*records, **options):
    return lambda query: [answer(query, *records, **options)]


def silence(query):
    return []


def asking(*servers, timeout=5.0, **options):
    return Resolver([server.address for server in servers], timeout=timeout, **options)


async def ask(udp, tcp=None, rdtype="A", **options):
    """One question about host.example; (answer, server)."""
    async with FakeServer(udp, tcp) as server, asking(server, **options) as resolver:
        return await resolver.query("host.example", rdtype), server


# ------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("rdtype", "data", "expected"),
    [
        ("MX", "10 Mail.Example.", (10, "mail.example")),
        ("MX", "0 .", (0, "")),
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:DB8::1", "2001:db8::1"),
        ("TLSA", "3 1 1 " + "ab" * 32, (3, 1, 1, b"\xab" * 32)),
        ("TXT", '"v=STS" "v1; id=1"', b"v=STSv1; id=1"),
    ],
)
async def test_records_of_each_type(rdtype, data, expected):
    found, _ = await ask(always(f"host.example. {rdtype} {data}", flags=dns.flags.AD), rdtype=rdtype)
    assert found == Answer(AnswerStatus.OK, "NOERROR", True, "host.example", (expected,))


@pytest.mark.parametrize(
    ("rcode", "status", "mnemonic"),
    [
        (0, AnswerStatus.NODATA, "NOERROR"),
        (NXDOMAIN, AnswerStatus.NXDOMAIN, "NXDOMAIN"),
        (SERVFAIL, AnswerStatus.FAILED, "SERVFAIL"),
        (REFUSED, AnswerStatus.FAILED, "REFUSED"),
    ],
)
async def test_rcodes_are_kept_apart(rcode, status, mnemonic):
    found, server = await ask(always(rcode=rcode))
    assert (found.status, found.rcode, found.data) == (status, mnemonic, ())
    assert len(server.asked) == 1


async def test_an_alias_is_followed_in_the_answer():
    found, _ = await ask(always("host.example. CNAME real.example.", "real.example. A 192.0.2.9"))
    assert (found.canonical_name, found.data) == ("real.example", ("192.0.2.9",))


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_event_loops_and_both_ip_versions(factory, host):
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError:
        pytest.skip(f"this machine has no {host}")

    def truncated_at_first(query):
        return [answer(query, flags=dns.flags.TC)]

    async def both_ways():
        fake = FakeServer(truncated_at_first, lambda query: framed(answer(query, A)), host)
        async with fake as server, asking(server) as resolver:
            return await resolver.query("host.example", "A")

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(both_ways()) == FOUND


async def test_many_questions_keep_their_order_and_ask_once_for_each():
    def udp(query):
        name = query.question[0].name
        return [answer(query, f"{name} TXT {name}")]

    names = [f"n{i}.example" for i in range(300)]
    async with FakeServer(udp) as server, asking(server, in_flight=50) as resolver:
        answers = await resolver.query_many([(name, "TXT") for name in [*names, *reversed(names)]])
    texts = [found.data[0].decode() for found in answers]
    assert texts == [name + "." for name in [*names, *reversed(names)]]
    assert sorted(server.names()) == sorted(names)


async def test_no_question_is_no_work():
    async with FakeServer(silence) as server, asking(server) as resolver:
        assert list(await resolver.query_many([])) == []
    assert server.asked == []


async def test_questions_in_flight_are_bounded():
    async with FakeServer(silence) as server, asking(server, in_flight=7) as resolver:
        waiting = asyncio.ensure_future(resolver.query_many([(f"n{i}.example", "A") for i in range(20)]))
        for i in range(20):
            await server.until(lambda i=i: len(server.asked) == min(i + 7, 20))
            await asyncio.sleep(0.002)
            assert len(server.asked) == min(i + 7, 20)
            server.transport.sendto(answer(server.asked[i], rcode=NXDOMAIN), server.peers[i])
        assert {found.rcode for found in await waiting} == {"NXDOMAIN"}


async def test_ids_and_ports_vary():
    async with FakeServer(always()) as server, asking(server, sockets=4) as resolver:
        await resolver.query_many([(f"n{i}.example", "TXT") for i in range(100)])
    assert len({query.id for query in server.asked}) > 90
    assert len({port for _, port in server.peers}) == 4


# --------------------------------------------------------------------------------------- memory and many who ask


async def test_the_same_question_is_on_its_way_once():
    async with FakeServer(always(A)) as server, asking(server) as resolver:
        answers = await asyncio.gather(
            *[resolver.query(name, "A") for name in ["host.example", "HOST.example."] * 10]
        )
    assert answers == [FOUND] * 20
    assert len(server.asked) == 1


async def test_one_who_gives_up_takes_the_answer_from_nobody():
    async with FakeServer(silence) as server, asking(server) as resolver:
        quitter = asyncio.ensure_future(resolver.query("host.example", "A"))
        patient = asyncio.ensure_future(resolver.query("host.example", "A"))
        await server.until(lambda: server.asked)
        quitter.cancel()
        await asyncio.gather(quitter, return_exceptions=True)
        server.transport.sendto(answer(server.asked[0], A), server.peers[0])
        assert await patient == FOUND
    assert quitter.cancelled()


async def test_addresses_are_remembered_and_mx_are_not():
    async with FakeServer(always()) as server, asking(server) as resolver:
        for rdtype in ("A", "AAAA", "A", "MX", "MX"):
            await resolver.query("host.example", rdtype)
    assert len(server.asked) == 4


async def test_memory_is_bounded_and_keeps_what_was_used_last():
    async with FakeServer(always()) as server, asking(server, remembered=2) as resolver:
        for name in ("a", "b", "a", "c", "a", "b"):
            await resolver.query(name, "A")
    assert server.names() == ["a", "b", "c", "b"]


async def test_what_failed_is_remembered_for_a_short_time_only(monkeypatch):
    monkeypatch.setattr(module, "KEPT_FAILED_SECONDS", 0.5)
    replies = [SERVFAIL, 0]
    async with (
        FakeServer(lambda query: [answer(query, rcode=replies.pop(0))]) as server,
        asking(server) as resolver,
    ):
        first = await resolver.query("host.example", "A")
        again = await resolver.query("host.example", "A")
        await asyncio.sleep(0.6)
        later = await resolver.query("host.example", "A")
    assert (first.rcode, again.rcode, later.rcode) == ("SERVFAIL", "SERVFAIL", "NOERROR")


# ---------------------------------------------------------------------------------------------------- hostile UDP


def forged(change):
    """A server that sends a lie first, then the truth."""
    return lambda query: [change(query), answer(query, A)]


def with_id(query):
    lie = bytearray(answer(query, "host.example. A 198.51.100.66"))
    lie[1] ^= 1
    return bytes(lie)


def with_question(name, rdtype):
    def change(query):
        other = dns.message.make_query(name, rdtype, id=query.id)
        return answer(
            other, f"{name} {rdtype} 198.51.100.66" if rdtype == "A" else f"{name} {rdtype} 1 evil.example."
        )

    return change


def as_query(query):
    lie = bytearray(answer(query, "host.example. A 198.51.100.66"))
    lie[2] &= 0x7F
    return bytes(lie)


@pytest.mark.parametrize(
    "change",
    [
        with_id,
        with_question("evil.example.", "A"),
        with_question("host.example.", "MX"),
        as_query,
        lambda query: b"\0" * 11,
        lambda query: answer(query, A)[:16],
    ],
    ids=["wrong id", "wrong name", "wrong type", "a query", "short", "question cut"],
)
async def test_a_lie_is_ignored_and_the_truth_awaited(change):
    async with FakeServer(forged(change)) as server, asking(server) as resolver:
        assert await resolver.query("host.example", "A") == FOUND
        assert resolver.datagrams == (1, 1)


async def test_an_answer_from_another_address_or_port_is_not_heard():
    """The right ID and question from the wrong place: the kernel drops it, as the socket is connected."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))

        def udp(query):
            stranger.sendto(answer(query, "host.example. A 198.51.100.66"), server.peers[-1])
            return []

        async with FakeServer(udp) as server, asking(server, timeout=0.1, tries=2) as resolver:
            assert await resolver.query("host.example", "A") == NO_ANSWER
            assert resolver.datagrams == (2, 0)


async def test_a_second_answer_is_ignored():
    async with FakeServer(lambda query: [answer(query, A)] * 3) as server, asking(server) as resolver:
        assert await resolver.query("host.example", "A") == FOUND
        await resolver.query("other.example", "TXT")
        assert resolver.datagrams[1] >= 2


def pointing(query, pointer):
    """An answer whose owner name is a compression pointer."""
    plain = answer(query)
    head = plain[:6] + b"\0\1" + bytes(4) + plain[12 : 12 + len(query.question[0].name.to_wire()) + 4]
    target = len(head) if pointer == "itself" else len(head) + 20
    return head + (0xC000 | target).to_bytes(2, "big") + bytes.fromhex("0001 0001 0000003c 0004 c6336442")


@pytest.mark.parametrize(
    "broken",
    [
        lambda query: pointing(query, "itself"),
        lambda query: pointing(query, "forwards"),
        lambda query: answer(query, A)[:-1],
        lambda query: answer(query, A) + b"junk",
        lambda query: answer(query, A)[:-17] + b"\xff" * 17,
    ],
    ids=["pointer loop", "pointer forwards", "cut", "trailing junk", "junk"],
)
async def test_what_is_malformed_ends_the_try(broken):
    replies = [broken, lambda query: answer(query, A)]
    found, server = await ask(lambda query: [replies.pop(0)(query)])
    assert found == FOUND
    assert len(server.asked) == 2


async def test_nothing_but_malformed_answers_is_no_answer(monkeypatch):
    monkeypatch.setattr(module, "RETRY_PAUSE", 0.01)
    found, server = await ask(lambda query: [pointing(query, "itself")])
    assert found == NO_ANSWER
    assert len(server.asked) == 3


async def test_an_alias_loop_is_nodata():
    found, _ = await ask(always("host.example. CNAME a.example.", "a.example. CNAME host.example."))
    assert (found.status, found.rcode, found.data) == (AnswerStatus.NODATA, "NOERROR", ())


async def test_txt_garbage_is_kept_as_octets():
    found, _ = await ask(always(r'host.example. TXT "\000\255\"" "\013"', "host.example. TXT x"), rdtype="TXT")
    assert set(found.data) == {b'\x00\xff"\r', b"x"}


async def test_a_datagram_flood_that_answers_nothing_is_survived():
    flood = [bytes(12)] * 200
    async with (
        FakeServer(lambda query: [*flood, answer(query, A)]) as server,
        asking(server) as resolver,
    ):
        assert await resolver.query("host.example", "A") == FOUND


# ---------------------------------------------------------------------------------------------------- silence


async def test_silence_is_no_answer_after_all_tries():
    begin = time.monotonic()
    found, server = await ask(silence, timeout=0.1, tries=3)
    assert found == NO_ANSWER
    assert len(server.asked) == 3
    assert 0.25 < time.monotonic() - begin < 10


async def test_an_answer_to_an_earlier_try_still_counts():
    def udp(query):
        if len(server.asked) == 2:
            server.transport.sendto(answer(server.asked[0], A), server.peers[0])
        return []

    async with FakeServer(udp) as server, asking(server, timeout=0.3, tries=2) as resolver:
        assert await resolver.query("host.example", "A") == FOUND
    assert len(server.asked) == 2


async def test_nobody_listening_is_no_answer_soon():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    begin = time.monotonic()
    async with Resolver([("127.0.0.1", port)], timeout=30) as resolver:
        answers = await resolver.query_many([(f"n{i}.example", "A") for i in range(1000)])
    assert set(answers) == {NO_ANSWER}
    assert time.monotonic() - begin < 20


async def test_leaving_cancels_those_who_wait():
    async with FakeServer(silence) as server:
        async with asking(server, in_flight=1) as resolver:
            waiting = [asyncio.ensure_future(resolver.query(f"n{i}.example", "A")) for i in range(3)]
            await asyncio.sleep(0.01)
        assert [
            isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*waiting, return_exceptions=True)
        ]
        assert all(task.cancelled() for task in waiting)
    with pytest.raises(RuntimeError):
        await resolver.query("host.example", "A")


# ----------------------------------------------------------------------------------------------- several servers


@pytest.mark.parametrize("first", [silence, always(rcode=SERVFAIL), always(rcode=REFUSED)])
async def test_the_next_server_is_asked(first):
    async with FakeServer(first) as bad, FakeServer(always(A)) as good, asking(bad, good, timeout=0.5) as resolver:
        assert await resolver.query("host.example", "A") == FOUND
    assert (len(bad.asked), len(good.asked)) == (1, 1)


async def test_servfail_is_asked_of_one_other_server_only():
    servfail = always(rcode=SERVFAIL)
    async with (
        FakeServer(servfail) as a,
        FakeServer(servfail) as b,
        FakeServer(servfail) as c,
        asking(a, b, c) as resolver,
    ):
        found = await resolver.query("host.example", "A")
    assert (found.status, found.rcode) == (AnswerStatus.FAILED, "SERVFAIL")
    assert [len(server.asked) for server in (a, b, c)] == [1, 1, 0]


async def test_servfail_then_silence_is_servfail():
    async with (
        FakeServer(always(rcode=SERVFAIL)) as a,
        FakeServer(silence) as b,
        asking(a, b, timeout=0.5) as resolver,
    ):
        found = await resolver.query("host.example", "A")
    assert found.rcode == "SERVFAIL"


async def test_a_server_that_stays_silent_is_no_longer_asked_first():
    async with (
        FakeServer(silence) as dead,
        FakeServer(always()) as good,
        asking(dead, good, timeout=0.5) as resolver,
    ):
        await resolver.query_many([(f"n{i}.example", "TXT") for i in range(module.SILENT_TRIES)])
        before = len(dead.asked)
        await resolver.query_many([(f"m{i}.example", "TXT") for i in range(50)])
    assert before == module.SILENT_TRIES
    assert len(dead.asked) == before


# ------------------------------------------------------------------------------------------------------------ TCP


def truncated(query):
    return [answer(query, "host.example. MX 66 cut.example.", flags=dns.flags.TC)]


async def test_a_truncated_answer_is_asked_for_over_tcp():
    records = [f"host.example. MX {i} mx{i}.{'x' * 40}.example." for i in range(1000)]
    found, server = await ask(truncated, lambda query: framed(answer(query, *records)), rdtype="MX")
    assert (len(found.data), found.data[999]) == (1000, (999, f"mx999.{'x' * 40}.example"))
    assert (len(server.asked), len(server.asked_over_tcp)) == (1, 1)


async def test_an_answer_of_64_kb_is_read():
    strings = " ".join(["x" * 255] * 250)
    found, _ = await ask(
        truncated, lambda query: framed(answer(query, f"host.example. TXT {strings}")), rdtype="TXT"
    )
    assert [len(text) for text in found.data] == [250 * 255]


def tcp_lie(query):
    return framed(
        answer(dns.message.make_query("evil.example.", "A", id=query.id), "evil.example. A 198.51.100.66")
    )


def wrong_id(query):
    wire = bytearray(answer(query, A))
    wire[0] ^= 1
    return framed(bytes(wire))


@pytest.mark.parametrize(
    "tcp",
    [
        lambda query: b"",
        lambda query: b"\0",
        lambda query: b"\xff\xff" + answer(query, A),
        lambda query: b"\0\0",
        lambda query: framed(answer(query, A)[:-1]),
        lambda query: framed(answer(query, A, flags=dns.flags.TC)),
        tcp_lie,
        wrong_id,
        lambda query: None,
    ],
    ids=["closed", "half a length", "cut", "empty", "malformed", "truncated again", "lie", "wrong id", "silence"],
)
async def test_what_goes_wrong_over_tcp_ends_the_try(tcp, monkeypatch):
    monkeypatch.setattr(module, "RETRY_PAUSE", 0.01)
    silent = tcp(dns.message.make_query("host.example", "A")) is None
    found, server = await ask(truncated, tcp, timeout=0.5 if silent else 5.0, tries=2)
    assert found == NO_ANSWER
    assert (len(server.asked), len(server.asked_over_tcp)) == (2, 2)


async def test_many_truncated_answers_to_one_question_open_one_connection():
    found, server = await ask(lambda query: truncated(query) * 20, lambda query: framed(answer(query, A)))
    assert found == FOUND
    assert len(server.asked_over_tcp) == 1


async def test_leaving_ends_what_is_under_way_over_tcp():
    async with FakeServer(truncated, lambda query: None) as server:
        async with asking(server, timeout=30) as resolver:
            waiting = asyncio.ensure_future(resolver.query("host.example", "A"))
            await server.until(lambda: server.asked_over_tcp)
        await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()


# ----------------------------------------------------------------------------------------------- what callers give


async def test_a_name_that_cannot_be_one_has_no_answer():
    async with FakeServer(always(A)) as server, asking(server) as resolver:
        names = ["a..b", "x" * 64, "_25._tcp." + ".".join(["x" * 60] * 4) + ".toolong", "bücher.example"]
        assert set(await resolver.query_many([(name, "A") for name in names])) == {NO_ANSWER}
    assert server.asked == []


async def test_a_type_that_is_not_read_is_an_error():
    async with FakeServer(silence) as server, asking(server) as resolver:
        with pytest.raises(ValueError, match="SRV"):
            await resolver.query("host.example", "SRV")


@pytest.mark.parametrize("servers", [[], [("dns.example", 53)], [("", 53)], [("300.1.1.1", 53)]])
async def test_a_server_is_an_address(servers):
    with pytest.raises(NoResolver):
        async with Resolver(servers):
            pass


async def test_the_system_configuration_is_read(monkeypatch, tmp_path):
    conf = tmp_path / "resolv.conf"
    whole = dns.resolver.Resolver
    monkeypatch.setattr(dns.resolver, "Resolver", lambda: whole(str(conf)))
    conf.write_text("search example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n")
    assert servers_from_system() == [("192.0.2.53", 53), ("2001:db8::53", 53)]
    conf.unlink()
    with pytest.raises(NoResolver, match="--resolver"):
        servers_from_system()
