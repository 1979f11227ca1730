"""Queries as they should be, answers read or refused; `dnsjudge` has dnspython judge all that is read here.

The environment variable DNS_MESSAGES sets how many generated messages are compared.
"""

import os

import dns.flags
import dns.message
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from dnsjudge import NAME, compare, differential, judged, lean, text
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scanner import dnswire
from scanner.records import Answer, AnswerStatus

MESSAGES = int(os.environ.get("DNS_MESSAGES", "3000"))
IN = dns.rdataclass.IN


def test_differential_over_generated_and_mutated_messages():
    answering, good = differential(MESSAGES, seed=2026)
    assert answering > 0.8 * MESSAGES
    assert 0.2 * MESSAGES < good < 0.9 * MESSAGES  # both verdicts are exercised


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=120), st.sampled_from(sorted(dnswire.TYPES)), st.integers(0, 6), st.integers(0, 15))
@example(b"\xc0\x0c\x00\x05\x00\x01\0\0\0\0\x00\x02\xc0\x0c", "A", 1, 0)
def test_differential_over_arbitrary_octets_behind_the_question(tail, rdtype, count, rcode):
    asked = dnswire.question(NAME, rdtype)
    header = bytes((0, 7, 0x81, 0x80 | rcode, 0, 1, 0, count, 0, 0, 0, 0))
    assert compare(NAME, rdtype, header + asked.wire + tail)


# ----------------------------------------------------------------------------------------------- building a query


@pytest.mark.parametrize("name", ["example.org", "", "_25._tcp.mail.example.org", "x" * 63 + ".org"])
def test_a_query_is_what_dnspython_would_send(name):
    message = dns.message.from_wire(dnswire.make_query(4660, dnswire.question(name, "TLSA")))
    assert message.id == 4660
    assert message.flags == dns.flags.RD | dns.flags.AD
    assert (message.edns, message.payload, message.ednsflags) == (0, 1232, 0)
    (asked,) = message.question
    assert (text(asked.name), asked.rdtype, asked.rdclass) == (name, dns.rdatatype.TLSA, IN)


@pytest.mark.parametrize("name", ["a..b", ".a", "a.", "x" * 64, ".".join(["x" * 63] * 4), "bücher.example"])
def test_what_cannot_be_a_name_is_not_asked(name):
    with pytest.raises(ValueError):
        dnswire.question(name, "MX")


def test_the_longest_name_can_be_asked():
    longest = ".".join(["x" * 63, "x" * 63, "x" * 63, "x" * 61])
    assert len(dnswire.question(longest, "A").wire) == 255 + 4


def test_a_type_that_is_not_read_is_not_asked():
    with pytest.raises(ValueError, match="SRV"):
        dnswire.question("example.org", "SRV")


# ------------------------------------------------------------------------------------- what answers which question

ASKED = dnswire.question(NAME, "MX")


def response(records="", *, rcode=0, ident=7, asked=ASKED, flags=0x8180, counts=None, tail=b""):
    """A response whose answer section is `records`, octets in hex with `@` for a pointer to the question."""
    body = bytes.fromhex(records.replace("@", "c00c"))
    head = ident.to_bytes(2, "big") + (flags | rcode).to_bytes(2, "big")
    return head + bytes.fromhex(counts or "0001000100000000") + asked.wire + body + tail


def test_the_question_is_compared_without_case():
    wire = response(counts="0001000000000000")
    assert dnswire.matches(ASKED, wire.replace(b"example", b"eXaMpLe"))
    assert dnswire.read(ASKED, wire).canonical_name == NAME


@pytest.mark.parametrize(
    "wire",
    [
        response(flags=0x0180),
        response(flags=0x8980),
        response(asked=dnswire.question("mail.example.net", "MX")),
        response(asked=dnswire.question(NAME, "A")),
        response(counts="0000000100000000"),
        response(counts="0002000100000000"),
        response()[:20],
    ],
    ids=["a query", "another opcode", "another name", "another type", "no question", "two questions", "cut off"],
)
def test_what_does_not_answer_the_question(wire):
    assert not dnswire.matches(ASKED, wire)


@pytest.mark.parametrize(("rcode", "accepted"), [(0, False), (1, True), (2, True), (3, False), (5, True)])
def test_only_an_error_may_leave_the_question_out(rcode, accepted):
    wire = bytes((0, 7, 0x81, 0x80 | rcode)) + bytes(8)
    assert dnswire.matches(ASKED, wire) is accepted
    query = dns.message.from_wire(dnswire.make_query(7, ASKED))
    assert query.is_response(dns.message.from_wire(wire)) is accepted
    if accepted:
        assert dnswire.read(ASKED, wire).status is AnswerStatus.FAILED


# ---------------------------------------------------------------------------------------------------- hostile data


def malformed(wire, match, name=NAME, rdtype="MX"):
    with pytest.raises(dnswire.Malformed, match=match):
        dnswire.read(dnswire.question(name, rdtype), wire)
    assert judged(name, rdtype, wire) is None


def test_a_pointer_loop_is_refused():
    # The exchange points at itself: it stands behind the header, the question, a record header and a preference.
    at = 12 + len(ASKED.wire) + 12 + 2
    malformed(response(f"@ 000f 0001 00000000 0004 000a c0{at:02x}"), "pointer")


def test_a_pointer_forwards_is_refused():
    at = 12 + len(ASKED.wire) + 12 + 2
    malformed(response(f"@ 000f 0001 00000000 0005 000a c0{at + 2:02x} 00"), "pointer")


def chain_of_pointers(asked, length):
    """A TXT record whose string is pointers, the first to the question, each to the one before; and where they are.

    The string begins behind the header, the question, a record header and the octet of its length.
    """
    begin = 12 + len(asked.wire) + 12 + 1
    places = [begin + 2 * i for i in range(length)]
    chain = b"".join((0xC000 | target).to_bytes(2, "big") for target in [12, *places[:-1]])
    record = b"\xc0\x0c" + bytes.fromhex("0010 0001 00000000") + (len(chain) + 1).to_bytes(2, "big")
    return record + bytes((len(chain),)) + chain, places


@pytest.mark.parametrize(
    ("hops", "good"), [(2, True), (dnswire.MAX_POINTERS, True), (dnswire.MAX_POINTERS + 1, False)]
)
def test_a_chain_of_pointers_is_bounded(hops, good):
    asked = dnswire.question(NAME, "TXT")
    record, places = chain_of_pointers(asked, 100)
    owner = (0xC000 | places[hops - 2]).to_bytes(2, "big")  # one hop to there, and so many back to the question
    wire = response(counts="0001000200000000", asked=asked) + record + owner
    wire += bytes.fromhex("0010 0001 00000000 0002 0161")
    assert (lean(NAME, "TXT", wire) is not None) is good
    assert lean(NAME, "TXT", wire) == judged(NAME, "TXT", wire)


@pytest.mark.parametrize(("last", "good"), [(61, True), (62, False)])
def test_a_name_has_at_most_255_octets(last, good):
    octets = b"".join(bytes((size,)) + b"a" * size for size in (63, 63, 63, last)) + b"\0"
    wire = response(f"@ 000f 0001 00000000 {len(octets) + 2:04x} 000a {octets.hex()}")
    assert (lean(NAME, "MX", wire) is not None) is good
    assert lean(NAME, "MX", wire) == judged(NAME, "MX", wire)


@pytest.mark.parametrize(("last", "end"), [(48, True), (49, False)])
def test_a_name_that_a_dname_makes_too_long_is_where_the_chain_ends(last, end):
    """NAME below a target of 63, 63, 63 and so many octets: 13 octets more for `mail` and `example`."""
    asked = dnswire.question(NAME, "A")
    target = ".".join("b" * size for size in (63, 63, 63, last))
    message = dns.message.make_response(dns.message.from_wire(dnswire.make_query(1, asked)))
    message.answer.append(dns.rrset.from_text("org.", 1, "IN", "DNAME", target + "."))
    answer = dnswire.read(asked, message.to_wire())
    assert answer.canonical_name == ("mail.example." + target if end else NAME)
    assert answer == judged(NAME, "A", message.to_wire())


def test_an_alias_loop_is_an_answer_without_records():
    asked = dnswire.question("a.org", "A")
    # a.org is an alias of b.org, which is an alias of a.org.
    b = 12 + len(asked.wire) + 12
    wire = response(f"@ 0005 0001 00000000 0004 0162 c00e c0{b:02x} 0005 0001 00000000 0002 @", asked=asked)
    wire = wire.replace(bytes.fromhex("0001000100000000"), bytes.fromhex("0001000200000000"), 1)
    answer = dnswire.read(asked, wire)
    assert (answer.status, answer.rcode, answer.data) == (AnswerStatus.NODATA, "NOERROR", ())
    assert answer == judged("a.org", "A", wire)


@pytest.mark.parametrize(("aliases", "found"), [(1, True), (15, True), (16, False), (40, False)])
def test_an_alias_chain_is_followed_so_far_and_no_further(aliases, found):
    asked = dnswire.question("n0.org", "A")
    message = dns.message.make_response(dns.message.from_wire(dnswire.make_query(1, asked)))
    for i in range(aliases):
        message.answer.append(dns.rrset.from_text(f"n{i}.org.", 1, "IN", "CNAME", f"n{i + 1}.org."))
    message.answer.append(dns.rrset.from_text(f"n{aliases}.org.", 1, "IN", "A", "192.0.2.1"))
    answer = dnswire.read(asked, message.to_wire())
    assert answer.data == (("192.0.2.1",) if found else ())
    assert not found or answer.canonical_name == f"n{aliases}.org"
    assert answer == judged("n0.org", "A", message.to_wire())


def test_a_dname_is_followed():
    asked = dnswire.question("mx.old.org", "A")
    message = dns.message.make_response(dns.message.from_wire(dnswire.make_query(1, asked)))
    message.answer.append(dns.rrset.from_text("old.org.", 1, "IN", "DNAME", "new.net."))
    message.answer.append(dns.rrset.from_text("mx.new.net.", 1, "IN", "A", "192.0.2.1"))
    assert dnswire.read(asked, message.to_wire()) == Answer(
        AnswerStatus.OK, "NOERROR", canonical_name="mx.new.net", data=("192.0.2.1",)
    )


@pytest.mark.parametrize(
    ("records", "rdtype", "why"),
    [
        ("@ 0001 0001 00000000 0003 c00002", "A", "4 octets"),
        ("@ 001c 0001 00000000 0004 c0000201", "AAAA", "16 octets"),
        ("@ 000f 0001 00000000 0002 000a", "MX", "without an exchange"),
        ("@ 000f 0001 00000000 0004 000a 0000", "MX", "does not fill"),
        ("@ 0034 0001 00000000 0002 0301", "TLSA", "3 octets"),
        ("@ 0010 0001 00000000 0000", "TXT", "without a string"),
        ("@ 0010 0001 00000000 0003 05 6162", "TXT", "beyond its TXT"),
        ("@ 0010 0001 00000000 0009 01 61", "TXT", "beyond the message"),
        ("@ 0010 0001 0000", "TXT", "in the middle"),
        ("@ 0010 0001 00000000 0002 01 61 ff", "TXT", "follows"),
        ("00 0029 04d0 00000000 0000", "TXT", "OPT"),
        ("80 0010 0001 00000000 0002 01 61", "TXT", "unknown kind"),
    ],
)
def test_broken_records(records, rdtype, why):
    malformed(response(records, asked=dnswire.question(NAME, rdtype)), why, rdtype=rdtype)


def test_the_upper_bits_of_the_rcode_stand_in_opt():
    opt = bytes.fromhex("00 0029 04d0 01000000 0000")
    answer = dnswire.read(ASKED, response(counts="0001000000000001", tail=opt))
    assert (answer.status, answer.rcode) == (AnswerStatus.FAILED, "BADVERS")
    malformed(response(counts="0001000000000002", tail=opt * 2), "OPT")


def test_odd_octets_in_an_exchange_come_out_escaped_and_the_root_empty():
    records = "@ 000f 0001 00000000 0009 0005 05 2e5c0041ff 00" + "@ 000f 0001 00000000 0003 0000 00"
    answer = dnswire.read(ASKED, response(records, counts="0001000200000000"))
    assert answer.data == ((5, "\\.\\\\\\000a\\255"), (0, ""))


def test_authenticated_is_the_ad_bit_and_tc_is_seen():
    assert dnswire.read(ASKED, response(flags=0x81A0, counts="0001000000000000")).authenticated
    assert dnswire.is_truncated(response(flags=0x8380))
    assert not dnswire.is_truncated(response())


def test_a_message_full_of_pointers_is_read_all_the_same():
    """64 KB of records whose owners need all pointers that are allowed: some ten thousand steps, not millions."""
    asked = dnswire.question(NAME, "TXT")
    chain, places = chain_of_pointers(asked, dnswire.MAX_POINTERS)
    owner = (0xC000 | places[dnswire.MAX_POINTERS - 2]).to_bytes(2, "big")
    record = owner + bytes.fromhex("0010 0001 00000000 0002 0161")
    count = (65_000 - len(chain)) // len(record)
    wire = response(counts=f"0001{count + 1:04x}00000000", asked=asked) + chain + record * count
    assert len(dnswire.read(asked, wire).data) == 2
