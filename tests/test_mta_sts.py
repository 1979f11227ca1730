"""MTA-STS as RFC 8461 writes it: records, policies and patterns, each rule by a case; garbage never raises."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.mta_sts import BadPolicy, Policy, judge, matches, read_policy, read_record
from scanner.policy_records import MtaSts, PolicyFailure, StsMode, StsPolicy, StsRecord
from scanner.records import Answer, AnswerStatus

AT = datetime(2026, 3, 1, tzinfo=UTC)
GOOD = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 86400\r\n"


def record(*texts):
    return read_record(Answer(AnswerStatus.OK, "NOERROR", data=texts))


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        (b"v=STSv1; id=20160831085700Z;", "20160831085700Z"),
        (b"v=STSv1;id=1", "1"),
        (b"v=STSv1 \t; \tid=abcXYZ019 ; ", "abcXYZ019"),
        (b"v=STSv1; more=x,y:z; id=1;", "1"),
        (b"v=STSv1; id=" + b"a" * 32, "a" * 32),
    ],
)
def test_valid_records(text, identity):
    found = record(b"v=spf1 -all", text)
    assert (found.record, found.id, found.text) == (StsRecord.VALID, identity, text.decode())


@pytest.mark.parametrize(
    "text",
    [
        b"v=STSv1;",
        b"v=STSv1; id=;",
        b"v=STSv1; id=a-b;",
        b"v=STSv1; id=" + b"a" * 33,
        b"v=STSv1; id=1; x",
        b"v=STSv1; id=1 2",
        b"v=STSv1; ID=1",
        b"v=STSv1; id=1; \xff=2",
    ],
)
def test_records_that_break_the_grammar(text):
    assert record(text).record is StsRecord.INVALID


def test_several_records_are_none_and_other_texts_do_not_count():
    assert record(b"v=STSv1; id=1", b"v=STSv1; id=1;").record is StsRecord.INVALID
    for other in (b"v=STSv2; id=1", b" v=STSv1; id=1", b"v=STSv10; id=1", b"V=STSv1; id=1", b"v=STSv1", b""):
        assert record(other).record is StsRecord.NONE
        assert record(other, b"v=STSv1; id=7").id == "7"


@pytest.mark.parametrize(
    ("status", "rcode", "expected"),
    [
        (AnswerStatus.NODATA, "NOERROR", StsRecord.NONE),
        (AnswerStatus.NXDOMAIN, "NXDOMAIN", StsRecord.NONE),
        (AnswerStatus.FAILED, "SERVFAIL", StsRecord.ERROR),
        (AnswerStatus.NO_ANSWER, None, StsRecord.ERROR),
    ],
)
def test_answers_without_a_record(status, rcode, expected):
    assert read_record(Answer(status, rcode)).record is expected


def test_a_long_record_is_kept_in_part():
    found = record(b"v=STSv1; id=1; x=" + b"y" * 60_000)
    assert (found.record, len(found.text)) == (StsRecord.VALID, 500)


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        GOOD.replace(b"\r\n", b"\n"),
        GOOD.removesuffix(b"\r\n"),
        GOOD.replace(b": ", b":"),
        GOOD.replace(b"\r\n", b" \t\r\n"),
        GOOD + b"later: any thing at all\n",
        GOOD + b"mode: none\nmax_age: 1\n",
    ],
)
def test_good_policies(body):
    assert read_policy(body) == Policy(StsMode.ENFORCE, 86400, ("mail.example.com", "*.example.net"))


@pytest.mark.parametrize("age", ["0", "31557600"])
def test_a_policy_without_mx_may_only_switch_off(age):
    body = f"version: STSv1\nmode: none\nmax_age: {age}\n".encode()
    assert read_policy(body) == Policy(StsMode.NONE, int(age), ())
    with pytest.raises(BadPolicy, match="no mx"):
        read_policy(body.replace(b"none", b"testing"))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"version: STSv1", b"version: STSv2", "version"),
        (b"version: STSv1", b"Version: STSv1", "version"),
        (b"version: STSv1\r\n", b"", "version"),
        (b"mode: enforce", b"mode: Enforce", "mode"),
        (b"mode: enforce", b"mode:", "line 2"),
        (b"max_age: 86400", b"max_age: 1 day", "max_age"),
        (b"max_age: 86400", b"max_age: -1", "max_age"),
        (b"max_age: 86400", b"max_age: 31557601", "max_age"),
        (b"max_age: 86400", b"max_age: 99999999999", "max_age"),
        (b"max_age: 86400", "max_age: ٣".encode(), "max_age"),
        (b"mx: mail.example.com", b"mx: *", "mx"),
        (b"mx: mail.example.com", b"mx: a.*.com", "mx"),
        (b"mx: mail.example.com", b"mx: .example.com", "mx"),
        (b"mx: mail.example.com", b"mx: mail example", "mx"),
        (b"mx: mail.example.com", b"mx: " + b"a." * 200 + b"com", "mx"),
        (b"mx: mail.example.com", b"mx: a\n" * 1000, "more than"),
        (b"mode: enforce", b"<html>", "line 2"),
        (b"mode: enforce", b"mode: \xff", "UTF-8"),
        (b"mode: enforce", b"mode\0: enforce", "line 2"),
    ],
)
def test_what_is_no_policy(old, new, why):
    with pytest.raises(BadPolicy, match=why):
        read_policy(GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("mail.example.com", "mail.example.com", True),
        ("Mail.Example.com", "mAIL.example.COM.", True),
        ("mail.example.com", "mx.mail.example.com", False),
        ("*.example.com", "mail.example.com", True),
        ("*.example.com", "a.mail.example.com", False),
        ("*.example.com", "example.com", False),
        ("*.example.com", "mailexample.com", False),
        ("example.com", "mail.example.com", False),
    ],
)
def test_a_wildcard_is_one_left_most_label(pattern, host, expected):
    assert matches(pattern, host) is expected


def policy(failure=None, mode=None, mx=()):
    return StsPolicy("example.org", AT, failure, mode=mode, mx=mx)


@pytest.mark.parametrize(
    ("answer", "found", "verdict", "unmatched"),
    [
        (StsRecord.NONE, None, MtaSts.NONE, ()),
        (StsRecord.INVALID, None, MtaSts.RECORD_INVALID, ()),
        (StsRecord.ERROR, None, MtaSts.RECORD_ERROR, ()),
        (StsRecord.VALID, None, MtaSts.NOT_FETCHED, ()),
        (StsRecord.VALID, policy(PolicyFailure.EXCLUDED), MtaSts.NOT_FETCHED, ()),
        (StsRecord.VALID, policy(PolicyFailure.SYNTAX), MtaSts.POLICY_INVALID, ()),
        (StsRecord.VALID, policy(PolicyFailure.NO_ADDRESS), MtaSts.UNAVAILABLE, ()),
        (StsRecord.VALID, policy(mode=StsMode.ENFORCE, mx=("*.b.example", "a.example")), MtaSts.ENFORCE, ()),
        (
            StsRecord.VALID,
            policy(mode=StsMode.TESTING, mx=("a.example",)),
            MtaSts.TESTING_MISMATCH,
            ("x.b.example",),
        ),
        (StsRecord.VALID, policy(mode=StsMode.NONE), MtaSts.OFF, ()),
    ],
)
def test_what_it_comes_to(answer, found, verdict, unmatched):
    assert judge(answer, found, ["a.example", "x.b.example"]) == (verdict, unmatched)


@pytest.mark.parametrize("failure", PolicyFailure)
def test_every_failure_comes_to_something(failure):
    expected = {MtaSts.NOT_FETCHED, MtaSts.POLICY_INVALID, MtaSts.UNAVAILABLE}
    assert judge(StsRecord.VALID, policy(failure), [])[0] in expected


LINES = st.sampled_from([*GOOD.split(b"\r\n"), b"mode: none", b"mx: \xff", b": x", b"mx:", b"\r", b"x" * 300])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.one_of(st.binary(max_size=200), st.lists(LINES, max_size=8).map(b"\n".join)))
def test_anything_that_is_served_is_a_policy_or_says_why_not(body):
    why = ""
    try:
        found = read_policy(body)
    except BadPolicy as error:
        why = str(error)
    if why:
        assert "\n" not in why
    else:
        assert b"STSv1" in body
        assert found.mx or found.mode is StsMode.NONE


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.binary(max_size=60), st.binary(max_size=20).map(b"v=STSv1; id=".__add__)), max_size=3))
def test_any_texts_are_a_record_or_none(texts):
    found = record(*texts)
    assert (found.id is not None) is (found.record is StsRecord.VALID)
