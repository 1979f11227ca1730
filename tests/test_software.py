"""Software recognition: an example of every entry of the table, and names that must fool nobody."""

from datetime import UTC, datetime

import pytest

from scanner.records import Endpoint, Failure, Observation, Stage, Status
from scanner.software import UNKNOWN, Software, _claims, of_observation, recognise, table

POSTFIX = ["PIPELINING", "SIZE 10240000", "VRFY", "ETRN", "STARTTLS", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN"]
EXCHANGE = ["SIZE 37748736", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", "STARTTLS", "8BITMIME", "BINARYMIME"]
DATE = "Tue, 24 Nov 2026 09:00:00 +0000"

EXAMPLES = [
    # name, version, greeting, first line of the EHLO reply, EHLO keywords; in the order of the table
    ("exchange-online", None, f"AM4.mail.protection.outlook.com Microsoft ESMTP MAIL Service ready at {DATE} [08]"),
    ("google", None, "mx.google.com ESMTP 5b1f17b1804b1-477bf1d9bcfsi11283695e9.122 - gsmtp"),
    ("proofpoint", None, "mx0a-00123401.pphosted.com ESMTP mfa-m0123456"),
    ("mimecast", None, f"eu-smtp-inbound-1.mimecast.com ESMTP; {DATE} [AbCdEf-gHiJk]"),
    ("barracuda", None, "d123456a.ess.barracudanetworks.com ESMTP"),
    ("symantec", None, "server-12.tower-345.messagelabs.com ESMTP"),
    ("cisco-esa", None, "esa1.hc1234-56.iphmx.com ESMTP"),
    ("exchange", None, f"mail.example.com Microsoft ESMTP MAIL Service ready at {DATE}"),
    ("exchange", "5.5.2653.13", "mx.example ESMTP Server (Microsoft Exchange Internet Mail Service 5.5.2653.13)"),
    ("iis-smtp", "10.0.17763.1", f"mx.example Microsoft ESMTP MAIL Service, Version: 10.0.17763.1 ready {DATE}"),
    ("zimbra", None, "mx.example ESMTP Zimbra"),
    ("proofpoint", None, "mx.example ESMTP Proofpoint Protection Server"),
    ("mimecast", None, "mx.example ESMTP Mimecast"),
    ("barracuda", None, "mx.example.com ESMTP (0123456789abcdef0123456789abcdef)"),
    ("fortimail", None, f"mx.example.com ESMTP Smtpd; {DATE}"),
    ("symantec", None, "mx.example ESMTP Symantec Messaging Gateway"),
    ("cisco-esa", None, "mx.example ESMTP IronPort"),
    ("halon", None, "mx.example ESMTP Halon Mail Gateway"),
    ("powermta", "5.0r8", "mx.example (PowerMTA(TM) v5.0r8) ESMTP service ready"),
    ("kumomta", None, "mx.example Welcome to KumoMTA!"),
    ("stalwart", None, "mx.example Stalwart ESMTP at your service"),
    ("maddy", "0.8.1", "mx.example ESMTP maddy 0.8.1"),
    ("axigen", None, "mx.example Axigen ESMTP ready"),
    ("communigate", "6.3.20", "mx.example ESMTP CommuniGate Pro 6.3.20 is glad to see you!"),
    ("domino", "12.0.2FP3", f"mx.example ESMTP Service (HCL Domino Release 12.0.2FP3) ready at {DATE}"),
    ("groupwise", "18.4.2", "mx.example GroupWise Internet Agent 18.4.2  Copyright 1993-2022 Micro Focus. Ready"),
    ("mailenable", "10.44", "mx.example ESMTP MailEnable Service, Version: 10.44--10.44 ready at 11/24/26"),
    ("hmailserver", None, "mx.example ESMTP hMailServer"),
    ("kerio", "9.4.2", "mx.example Kerio Connect 9.4.2 ESMTP ready"),
    ("icewarp", "14.0.0.9", f"mx.example ESMTP IceWarp 14.0.0.9 x64; {DATE}"),
    ("mdaemon", "23.5.2", f"mx.example ESMTP MDaemon 23.5.2; {DATE}"),
    ("haraka", "3.0.5", "mx.example ESMTP Haraka/3.0.5 ready"),
    ("opensmtpd", None, "mx.example ESMTP OpenSMTPD"),
    ("sendmail", "8.18.1", f"mx.example ESMTP Sendmail 8.18.1/8.18.1/Debian-6; {DATE}"),
    ("exim", "4.98", f"mx.example ESMTP Exim 4.98 {DATE}"),
    ("postfix", "3.7.11", "mx.example ESMTP Postfix (3.7.11)"),
    ("netqmail", "1.06", "mx.example ESMTP netqmail-1.06"),
    ("qmail", None, "mx.example ESMTP qmail"),
    ("courier", None, "mx.example ESMTP Courier"),
    ("haraka", None, "mx.example ESMTP", "mx.example Hello scan.example [192.0.2.1], Haraka is at your service."),
    ("courier", None, "mx.example ESMTP", "mx.example Ok.", ["AUTH LOGIN", "XVERP=Courier", "XEXDATA", "DSN"]),
    ("axigen", None, "mx.example hello", "mx.example Axigen ESMTP hello", ["PIPELINING"]),
    ("exim", None, "mx.example ESMTP", "mx.example Hello scan.example [192.0.2.1]", ["SIZE 52428", "PIPECONNECT"]),
    ("exchange", None, "mx.example ESMTP", "mx.example Hello [192.0.2.1]", [*EXCHANGE, "CHUNKING", "XRDST"]),
    ("sendmail", None, "mx.example ESMTP", "mx.example Hello scan.example [192.0.2.1], pleased to meet you",
     ["ENHANCEDSTATUSCODES", "PIPELINING", "EXPN", "VERB", "8BITMIME", "SIZE", "DSN", "ETRN", "DELIVERBY", "HELP"]),
    ("postfix", None, "mx.example ESMTP", "mx.example", POSTFIX),
    ("qmail", None, "mx.example ESMTP", "mx.example", ["STARTTLS", "PIPELINING", "8BITMIME"]),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=[f"{n}-{row[0]}" for n, row in enumerate(EXAMPLES)])
def test_example(number):
    name, version, *said = EXAMPLES[number]
    assert recognise(*said) == Software(name, version)


def test_there_is_an_example_of_every_entry_in_order():
    assert [entry.name for entry in table()] == [row[0] for row in EXAMPLES]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_entry_is_needed(number, monkeypatch):
    """Without its own entry an example is not recognised as well as with it."""
    name, version, *said = EXAMPLES[number]
    others = (*table()[:number], *table()[number + 1 :])
    monkeypatch.setattr("scanner.software.table", lambda: others)
    monkeypatch.setattr("scanner.software._claims", _claims.__wrapped__)  # it remembers the whole table
    assert recognise(*said) != Software(name, version)


WANTED = """postfix exim sendmail opensmtpd exchange exchange-online google haraka courier qmail netqmail mailenable
hmailserver zimbra kerio icewarp mdaemon cisco-esa proofpoint mimecast barracuda fortimail symantec halon powermta
kumomta stalwart maddy axigen communigate domino groupwise"""


def test_the_software_that_was_asked_for_is_there():
    assert set(WANTED.split()) <= {entry.name for entry in table()}


@pytest.mark.parametrize("entry", sorted({entry.name for entry in table()}))
def test_a_host_named_after_a_software_is_no_claim(entry):
    assert recognise(f"{entry}.example.com ESMTP", f"{entry}.example.com", ["SIZE"]).name == UNKNOWN
    assert recognise(f"mx.{entry}-hosting.example ESMTP ready").name == UNKNOWN


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        ("mx.example ESMTP Postfix (Debian/GNU)", Software("postfix")),
        ("mx.example ESMTP Postfix (Ubuntu 24.04)", Software("postfix")),
        ("mx.example\nmx.example ESMTP Postfix", Software("postfix")),  # postscreen's teaser
        ("ESMTP Exim", Software("exim")),  # no domain
        ("mx.example ESMTP Sendmail; Tue", Software("sendmail")),
        ("mx.example ESMTP Exim 4.96.", Software("exim", "4.96")),
        ("mx.example ESMTP", Software(UNKNOWN)),
        ("mx.example ESMTP ready at your postfixes", Software(UNKNOWN)),
        ("***************************", Software(UNKNOWN)),
        ("", Software(UNKNOWN)),
        (None, Software(UNKNOWN)),
    ],
)
def test_greetings(greeting, expected):
    assert recognise(greeting) == expected


def test_odd_text_is_no_fault():
    assert recognise("\x00\udcff\n" * 300, "\udc80", ["", " ", "\x00 x"]).name == UNKNOWN


def test_an_observation():
    def observation(**said):
        return Observation(
            Endpoint("mx.example", "192.0.2.1", 25), 1, Status.FAILED, Stage.EHLO, Failure.NOT_OFFERED,
            datetime.now(UTC), 1, **said,
        )  # fmt: skip

    assert of_observation(observation()) is None
    assert of_observation(observation(greeting="mx.example ESMTP Exim 4.98")) == "exim"
    hidden = observation(greeting="mx.example ESMTP", ehlo_greeting="mx.example", ehlo_keywords=tuple(POSTFIX))
    assert of_observation(hidden) == "postfix"
