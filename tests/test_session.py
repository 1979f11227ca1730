"""Sessions against real sockets: what is captured, and how everything that can go wrong ends."""

import asyncio
import errno
import socket
import time
from datetime import UTC, datetime

import pytest
from smtpfake import EHLO, EHLO_AFTER, GREETING, serving

from scanner.records import ClientAuth, Endpoint, Failure, Stage, Status
from scanner.session import SessionSettings, observe

SECONDS = 8.0  # nothing good takes that long, even on a busy machine
SHORT = 1.0  # where waiting in vain is the point
BOUND = 20.0


def now():
    return datetime.now(UTC)


async def contact(port, *, seconds=SECONDS, host="mx.test", **settings):
    """One observation of a local port; `BOUND` is far beyond every timeout, and reaching it is a failure."""
    settings = SessionSettings("scanner.example", seconds, **{"quit_timeout": seconds, **settings})
    return await asyncio.wait_for(observe(Endpoint(host, "127.0.0.1", port), 1, settings, now), BOUND)


async def look(script, **settings):
    with serving(script) as (port, peers):
        observation = await contact(port, **settings)
    return observation, peers


def ends(observation):
    return observation.status, observation.stage, observation.failure


def says(*replies, end="close"):
    """A server that says one thing a turn, then closes, resets or stays silent."""

    def script(peer):
        for reply in replies:
            peer.say(reply)
            peer.hear()
        if end == "reset":
            peer.reset()
        elif end == "silence":
            peer.silence()

    return script


# --------------------------------------------------------------------------------------------- our own side


async def test_refused():
    with serving(says()) as (port, _):
        pass
    observation = await contact(port)
    assert ends(observation) == (Status.FAILED, Stage.CONNECT, Failure.REFUSED)


async def test_a_fault_of_ours_is_local_and_never_no_tls():
    def broken(_endpoint):
        raise RuntimeError("no room")

    observation, _ = await look(says(GREETING), transcript=broken)
    assert ends(observation) == (Status.FAILED, Stage.CONNECT, Failure.LOCAL)
    assert observation.detail == "RuntimeError: no room"
    assert observation.starttls_offered is None


async def test_no_sockets_left_is_local(monkeypatch):
    def none_left(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    observation = await observe(Endpoint("mx.test", "127.0.0.1", 1), 1, SessionSettings("a.example"), now)
    assert ends(observation) == (Status.FAILED, Stage.CONNECT, Failure.LOCAL)


@pytest.mark.parametrize(
    ("number", "failure"),
    [
        (errno.ECONNREFUSED, Failure.REFUSED),
        (errno.EHOSTUNREACH, Failure.UNREACHABLE),
        (errno.ENETUNREACH, Failure.UNREACHABLE),
        (errno.EACCES, Failure.UNREACHABLE),
        (errno.ETIMEDOUT, Failure.TIMEOUT),
        (errno.EPERM, Failure.LOCAL),
        (errno.EADDRNOTAVAIL, Failure.LOCAL),
    ],
)
async def test_what_the_system_says_of_a_connect(number, failure, monkeypatch):
    async def fails(*_, **__):
        raise OSError(number, "as the system says")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", fails)
    observation = await contact(1)
    assert (observation.stage, observation.failure) == (Stage.CONNECT, failure)


async def test_a_connect_that_hangs_ends_in_time():
    """A listener whose queue is full answers no SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        observation = await contact(listener.getsockname()[1], seconds=0.2)
        for filler in fillers:
            filler.close()
    assert ends(observation) == (Status.FAILED, Stage.CONNECT, Failure.TIMEOUT)


async def test_the_source_address_is_used_for_its_own_family():
    def script(peer):
        peer.said_from = peer.sock.getpeername()[0]

    _, peers = await look(script, source_address="127.0.0.9")
    assert peers[0].said_from == "127.0.0.9"
    observation, _ = await look(script, source_address="::1")
    assert observation.stage is Stage.GREETING


async def test_cancellation_passes_and_closes():
    with serving(says(GREETING, end="silence")) as (port, peers):
        session = asyncio.ensure_future(contact(port, seconds=9))
        async with asyncio.timeout(BOUND):
            while not peers or not peers[0].received:  # noqa: ASYNC110  the server is a thread
                await asyncio.sleep(0.01)
        session.cancel()
        with pytest.raises(asyncio.CancelledError):
            await session
        await asyncio.sleep(0)
    assert peers[0].received == ["EHLO scanner.example"]


async def test_the_transcript_has_both_sides():
    lines = []
    script = says(GREETING, b"250 mx.test\r\n", b"221 bye\r\n")
    await look(script, transcript=lambda endpoint: lambda who, text: lines.append((endpoint.mx_host, who, text)))
    assert lines.pop(0)[2].startswith("connected from 127.0.0.1 ")
    assert lines == [
        ("mx.test", "S", "220 mx.test ESMTP ready"),
        ("mx.test", "C", "EHLO scanner.example"),
        ("mx.test", "S", "250 mx.test"),
        ("mx.test", "C", "QUIT"),
        ("mx.test", "S", "221 bye"),
    ]


async def test_times_are_measured():
    def script(peer):
        time.sleep(0.2)
        peer.say(b"554 no\r\n")

    before = now()
    observation, _ = await look(script)
    assert before <= observation.started_at <= now()
    assert 200 <= observation.duration_ms < 5000


# --------------------------------------------------------------------------- hostile servers, before TLS


HOSTILE = {
    "a line of a megabyte": (says(b"220 " + b"a" * 1_000_000), Stage.GREETING, Failure.MALFORMED),
    "an endless greeting": (says(b"220-a\r\n" * 200_000), Stage.GREETING, Failure.MALFORMED),
    "endless continuation of EHLO": (says(GREETING, b"250-a\r\n" * 200_000), Stage.EHLO, Failure.MALFORMED),
    "a megabyte out of turn": (says(b"220 a\r\n" + b"250 b\r\n" * 150_000), Stage.EHLO, Failure.MALFORMED),
    "a megabyte of text for TLS": (
        says(GREETING, EHLO, b"220 go\r\n" + b"a" * 1_000_000),
        Stage.HANDSHAKE,
        Failure.TLS_PROTOCOL,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_too_much_is_bounded(name):
    script, stage, failure = HOSTILE[name]
    observation, _ = await look(script, seconds=5)
    assert ends(observation) == (Status.FAILED, stage, failure), observation.detail
    assert observation.duration_ms < 4000
    assert len(observation.detail) <= 1000
    assert len(observation.greeting or "") <= 1000


async def test_a_greeting_of_many_lines_is_kept_in_part():
    observation, _ = await look(says(b"220-" + b"long line " * 50 + b"\r\n" + b"220-a\r\n" * 1000 + b"220 b\r\n"))
    assert observation.stage is Stage.EHLO
    assert len(observation.greeting) == 1000


async def test_starttls_is_found_behind_a_thousand_keywords():
    reply = b"250-mx.test\r\n" + b"".join(b"250-X%d\r\n" % n for n in range(1000)) + b"250 STARTTLS\r\n"
    observation, _ = await look(says(GREETING, reply, b"454 later\r\n"))
    assert observation.starttls_offered
    assert len(observation.ehlo_keywords) == 100


@pytest.mark.parametrize("turn", [0, 1, 2])
async def test_one_octet_at_a_time_holds_no_slot(turn):
    """Each reply has its time as a whole, not by the octet."""

    def script(peer):
        for reply in (GREETING, EHLO)[:turn]:
            peer.say(reply)
            peer.hear()
        peer.sock.settimeout(0.1)
        for octet in (b"220-" + b"a" * 60)[:60]:
            peer.say(bytes([octet]))
            try:
                if not peer.sock.recv(65536) and turn < 2:
                    return
            except TimeoutError:
                continue

    observation, _ = await look(script, seconds=0.4)
    assert observation.failure is Failure.TIMEOUT
    assert observation.stage is (Stage.GREETING, Stage.EHLO, Stage.STARTTLS)[turn]
    assert observation.duration_ms < 2000


async def test_the_session_as_a_whole_has_a_bound():
    def slow(peer):
        for reply in (GREETING, EHLO, b"220 go\r\n"):
            time.sleep(0.2)
            peer.say(reply)
            peer.hear()

    observation, _ = await look(slow, total_timeout=0.3)
    assert observation.failure is Failure.TIMEOUT
    assert observation.stage in {Stage.GREETING, Stage.EHLO}  # which one is the machine's business
    assert "0.3" in observation.detail


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_cut_at_every_octet_before_tls(end):
    """Whatever is cut off is an end of its stage, never a verdict on STARTTLS."""
    whole = (GREETING, EHLO, b"220 go\r\n")
    stages = (Stage.GREETING, Stage.EHLO, Stage.STARTTLS)
    failure = Failure.CLOSED if end == "close" else Failure.RESET
    cuts = [(turn, cut) for turn, reply in enumerate(whole) for cut in range(0, len(reply), 3)]

    async def cut_at(turn, cut):
        def script(peer):
            for reply in whole[:turn]:
                peer.say(reply)
                peer.hear()
            peer.say(whole[turn][:cut])
            if end == "reset":
                peer.reset()

        observation, _ = await look(script)
        assert ends(observation) == (Status.FAILED, stages[turn], failure), (turn, cut, observation.detail)
        assert observation.starttls_offered in ((True,) if turn == 2 else (None,))
        assert observation.client_auth is ClientAuth.UNTESTED

    for turn, cut in cuts:
        await cut_at(turn, cut)


async def test_many_at_once_leave_nothing_behind():
    before = len(asyncio.all_tasks())
    with serving(says(GREETING, EHLO_AFTER, b"221 bye\r\n")) as (port, peers):
        seen = await asyncio.gather(*(contact(port, seconds=5) for _ in range(50)))
    assert {ends(one) for one in seen} == {(Status.FAILED, Stage.EHLO, Failure.NOT_OFFERED)}
    assert all(peer.received == ["EHLO scanner.example", "QUIT"] for peer in peers)
    assert len(asyncio.all_tasks()) == before
