"""Dialogue vectors: whole sessions as text, replayed whole and one octet at a time, with the same verdict.

A file in tests/dialogues/ has headers (`expect:` fields of the Observation, `why:`, `whole-only:`), an empty line,
and the dialogue: `S:` a line of the server's, `S|` octets with Python's escapes, `C:` the command that must come,
`TLS: VERSION [asks]` a handshake, `END: close|reset|silence` how the server goes; without it, once the client has.
"""

import codecs
from pathlib import Path

import pytest
from smtpfake import server_context
from test_session import SECONDS, SHORT, look

FOLDER = Path(__file__).parent / "dialogues"
JSON = {"null": None, "true": True, "false": False}


def read(name):
    head, body = (FOLDER / f"{name}.txt").read_text().split("\n\n", 1)
    headers = dict(line.split(": ", 1) for line in head.splitlines())
    expected = dict(field.split("=") for field in headers["expect"].split())
    return headers, expected, [(line[:2], line[2:].strip(), line) for line in body.splitlines()]


def turns(steps):
    """The server's consecutive lines are one turn, one packet when replayed whole."""
    said = b""
    for kind, rest, line in steps:
        if kind == "S:":
            said += rest.encode() + b"\r\n"
        elif kind == "S|":
            said += codecs.escape_decode(rest)[0]
        else:
            if said:
                yield "S", said
            said = b""
            yield tuple(line.split(": ", 1))
    if said:
        yield "S", said


def replay(steps, *, bytewise):
    def script(peer):
        for kind, rest in turns(steps):
            if kind == "S":
                peer.say(rest, bytewise=bytewise)
            elif kind == "C":
                peer.hear()
            elif kind == "TLS":
                version, *asks = rest.split()
                peer.tls(server_context(version, ask=bool(asks)))
            elif rest == "close":
                return
            elif rest == "reset":
                peer.reset()
                return
            elif rest == "silence":
                peer.silence()
        peer.silence()

    return script


VECTORS = sorted(path.stem for path in FOLDER.glob("*.txt"))


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("name", VECTORS)
async def test_dialogue(name, bytewise):
    headers, expected, steps = read(name)
    if bytewise and "whole-only" in headers:
        return
    seconds = SHORT if steps[-1][2] == "END: silence" else SECONDS
    observation, peers = await look(replay(steps, bytewise=bytewise), seconds=seconds)
    seen = {key: getattr(observation, key) for key in expected}
    assert {key: JSON.get(value, value) for key, value in expected.items()} == {
        key: str(value) if type(value) is int else value for key, value in seen.items()
    }, observation.detail
    assert peers[0].received == [rest for kind, rest, _ in steps if kind == "C:"]


def test_every_vector_is_read():
    assert len(VECTORS) > 40
