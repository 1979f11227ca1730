"""The contract's table of client_auth, row by row; test_tls.py and dialogues/ have the same over sockets."""

from dataclasses import replace

import pytest

from scanner.client_auth import HandshakeEnd, decide, names_certificate
from scanner.records import ClientAuth

BEFORE = HandshakeEnd(completed=False, requested=False)
PLAIN = HandshakeEnd(completed=True, requested=False, finished_sent=True)
ASKED_12 = HandshakeEnd(completed=False, requested=True, finished_sent=True)  # up to TLS 1.2, Finished on its way
ASKED_13 = HandshakeEnd(completed=True, requested=True, finished_sent=True)
REQUIRING = (40, 42, 43, 46, 116)


@pytest.mark.parametrize(
    ("end", "verdict"),
    [
        (BEFORE, ClientAuth.UNTESTED),
        (replace(BEFORE, alert=40), ClientAuth.UNTESTED),
        (replace(BEFORE, closed_cleanly=True), ClientAuth.UNTESTED),
        (PLAIN, ClientAuth.NOT_REQUESTED),
        (replace(PLAIN, greeted_again=True), ClientAuth.NOT_REQUESTED),
        (replace(PLAIN, alert=116), ClientAuth.NOT_REQUESTED),
        (replace(PLAIN, closed_cleanly=True), ClientAuth.NOT_REQUESTED),
        (replace(PLAIN, code=421, text="4.7.1 no client certificate"), ClientAuth.NOT_REQUESTED),
        (replace(ASKED_13, greeted_again=True), ClientAuth.REQUESTED),
        (replace(ASKED_13, greeted_again=True, closed_cleanly=True), ClientAuth.REQUESTED),  # closed after the 250
        (ASKED_13, ClientAuth.REQUESTED_UNKNOWN),  # silence, a reset, nonsense
        (ASKED_12, ClientAuth.REQUESTED_UNKNOWN),
        (replace(ASKED_12, closed_cleanly=True), ClientAuth.REQUIRED),
        (replace(ASKED_13, closed_cleanly=True), ClientAuth.REQUIRED),
        (replace(ASKED_12, closed_cleanly=True, finished_sent=False), ClientAuth.REQUESTED_UNKNOWN),
        (replace(ASKED_13, code=421, text="4.7.1 mx Error"), ClientAuth.REQUIRED),
        (replace(ASKED_13, code=421, text="4.7.0 too many connections"), ClientAuth.REQUESTED_UNKNOWN),
    ],
)
def test_the_table(end, verdict):
    assert decide(end) is verdict


@pytest.mark.parametrize("number", range(256))
@pytest.mark.parametrize("end", [ASKED_12, ASKED_13])
def test_alerts(end, number):
    # GnuTLS's decode_error, and only between our Finished and the server's: docs/decisions/0073.
    required = number in REQUIRING or (number == 50 and not end.completed)
    expected = ClientAuth.REQUIRED if required else ClientAuth.REQUESTED_UNKNOWN
    assert decide(replace(end, alert=number)) is expected


def test_gnutls_decode_error_before_our_finished_says_nothing():
    assert decide(replace(ASKED_12, finished_sent=False, alert=50)) is ClientAuth.REQUESTED_UNKNOWN


@pytest.mark.parametrize(
    ("code", "text", "names"),
    [
        (421, "4.7.1 mx.example Error: No client certificate presented", True),
        (421, "4.7.1 busy", True),
        (421, "4.7.1", True),
        (421, "4.7.10 busy", False),
        (421, "4.7.0 too many connections", False),
        (421, "try 4.7.1 later", False),
        (450, "4.7.1 greylisted", False),
        (503, "5.7.0 authentication required", True),
        (550, "5.7.0 authentication required", False),
        (550, "5.7.1 you need a Certificate", True),
        (554, "bad cert", True),
        (554, "no TLS certs here", True),
        (554, "this is certain", False),
        (554, "uncertified", False),
        (554, "", False),
    ],
)
def test_replies_that_name_the_certificate(code, text, names):
    assert names_certificate(code, text) is names
    assert decide(replace(ASKED_13, code=code, text=text)) is (
        ClientAuth.REQUIRED if names else ClientAuth.REQUESTED_UNKNOWN
    )
