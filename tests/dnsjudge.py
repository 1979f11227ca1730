"""dnspython as the judge of the lean DNS reader: what one refuses the other refuses, what they read is equal.

`python tests/dnsjudge.py 1000000 [SEED]` compares them over so many generated and mutated messages.
"""

import random
import sys
from unittest import mock

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.OPT
import dns.rrset

from scanner import dnswire
from scanner.addresses import canonical
from scanner.records import Answer, AnswerStatus

IN = dns.rdataclass.IN
ALIASES = {dns.rdatatype.CNAME, dns.rdatatype.DNAME}

# ------------------------------------------------------------------------------------------------------ the judge


def reading_only(types):
    """dnspython's reader of record data, for these types; all others are taken as octets, as the lean one does."""
    whole = dns.rdata.from_wire_parser

    def from_wire_parser(rdclass, rdtype, parser, origin=None):
        if rdtype == dns.rdatatype.TSIG or (rdclass == IN and rdtype in types - {dns.rdatatype.TLSA}):
            return whole(rdclass, rdtype, parser, origin)
        generic = dns.rdata.GenericRdata.from_wire_parser(rdclass, rdtype, parser, origin)
        if rdclass == IN and rdtype == dns.rdatatype.TLSA in types and len(generic.data) < 3:
            # dnspython also refuses a digest of the wrong length: unusable (RFC 7672 section 3.1), yet a fact.
            raise dns.exception.FormError
        if rdtype == dns.rdatatype.OPT:
            return dns.rdtypes.ANY.OPT.OPT(rdclass, rdtype, ())
        return generic

    return mock.patch.object(dns.rdata, "from_wire_parser", from_wire_parser)


def up_to_the_answers():
    """dnspython's reader of sections, stopping behind the answer section.

    Counts of zero in the header would do the same, but for names that point into the header.
    """
    whole = dns.message._WireReader._get_section

    def get_section(self, section, count):
        if section == dns.message.MessageSection.ANSWER:
            whole(self, section, count)

    return mock.patch.object(dns.message._WireReader, "_get_section", get_section)


def judged(name, rdtype, wire):
    """What dnspython makes of a message: an Answer, or None where it refuses it."""
    wanted = dns.rdatatype.from_text(rdtype)
    try:
        with reading_only(set()):
            rcode = dns.message.from_wire(wire).rcode()
        with reading_only({wanted, *ALIASES}), up_to_the_answers():
            message = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return None
    end, records = followed(message, dns.name.from_text(name), wanted)
    if not any(rrset.rdtype == dns.rdatatype.DNAME for rrset in message.answer) and len(message.question) == 1:
        agrees_with_its_own_chaining(message, end, records)
    mnemonic = dnswire.RCODES.get(rcode, f"RCODE{rcode}")
    data = tuple(dict.fromkeys(value(record) for record in records)) if rcode == 0 else ()
    status = {0: AnswerStatus.OK if data else AnswerStatus.NODATA, 3: AnswerStatus.NXDOMAIN}.get(
        rcode, AnswerStatus.FAILED
    )
    return Answer(status, mnemonic, bool(message.flags & dns.flags.AD), text(end), data)


def followed(message, name, wanted):
    """The end of the alias chain in dnspython's own objects, and the records there."""
    sets = {(rrset.name, rrset.rdtype): rrset for rrset in message.answer if rrset.rdclass == IN}
    for _ in range(dnswire.MAX_ALIASES):
        if (name, wanted) in sets:
            return name, list(sets[name, wanted])
        if (name, dns.rdatatype.CNAME) in sets:
            name = sets[name, dns.rdatatype.CNAME][0].target
            continue
        for depth in range(len(name), 0, -1):
            prefix, ancestor = name.split(depth)
            if len(prefix) and (ancestor, dns.rdatatype.DNAME) in sets:
                break
        else:
            return name, []
        try:
            name = prefix.concatenate(sets[ancestor, dns.rdatatype.DNAME][0].target)
        except dns.name.NameTooLong:
            return name, []
    return name, []


def agrees_with_its_own_chaining(message, end, records):
    try:
        result = message.resolve_chaining()
    except dns.message.ChainTooLong:
        assert not records
        return
    except (dns.message.AnswerForNXDOMAIN, dns.message.NotQueryResponse, dns.exception.FormError):
        return
    assert result.canonical_name == end
    assert list(result.answer or ()) == records


def text(name):
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def value(record):
    match record.rdtype:
        case dns.rdatatype.MX:
            return record.preference, text(record.exchange)
        case dns.rdatatype.TLSA:
            return record.data[0], record.data[1], record.data[2], record.data[3:]
        case dns.rdatatype.TXT:
            return b"".join(record.strings)
        case dns.rdatatype.AAAA:
            return canonical(record.address)  # dnspython writes ::/96 in mixed notation
        case _:
            return record.address


def lean(name, rdtype, wire):
    try:
        return dnswire.read(dnswire.question(name, rdtype), wire)
    except dnswire.Malformed:
        return None


def compare(name, rdtype, wire):
    """Both readers on one message; returns whether it was one that answers the question."""
    asked = dnswire.question(name, rdtype)
    if len(wire) < 12 or not dnswire.matches(asked, wire):
        return False
    expected, found = judged(name, rdtype, wire), lean(name, rdtype, wire)
    assert found == expected, wire.hex()
    return True


# ---------------------------------------------------------------------------------------------- generated messages

LABELS = [
    "mx",
    "a",
    "b",
    "mail",
    "Example",
    "ORG",
    "x" * 63,
    "_25",
    "_tcp",
    "odd\\.dot",
    "sp\\032ace",
    "\\000\\255",
    "q\\@",
]
NAME = "mail.example.org"


def some_name(rng):
    kind = rng.random()
    if kind < 0.4:
        return dns.name.from_text(NAME)
    if kind < 0.45:
        return dns.name.root
    labels = ".".join(rng.choice(LABELS) for _ in range(rng.randint(1, 3)))
    suffix = rng.choice(["example.org.", "org.", "."])
    return dns.name.from_text(labels + "." + suffix.lstrip("."))


def some_record(rng, rdtype):
    match rdtype:
        case "A":
            return f"192.0.2.{rng.randrange(4)}"
        case "AAAA":
            return rng.choice(
                ["2001:db8::1", "::1", "::ffff:192.0.2.1", "::192.0.2.1", "64:ff9b::1", "2001:db8:0:1::"]
            )
        case "MX":
            return f"{rng.randrange(3)} {some_name(rng)}"
        case "TLSA":
            return f"\\# 35 {rng.choice(['000000', '030101', 'ffffff'])}{rng.randbytes(32).hex()}"
        case "TXT":
            return " ".join(f'"{rng.randbytes(rng.randrange(4)).hex()}"' for _ in range(rng.randint(1, 3)))
        case "CNAME" | "DNAME" | "NS":
            return str(some_name(rng))
        case "SOA":
            return f"{some_name(rng)} {some_name(rng)} 1 2 3 4 5"
        case _:
            return r"\# 4 01020304"


def some_rrset(rng, rdtype):
    count = 1 if rdtype in {"CNAME", "DNAME", "SOA"} else rng.randint(1, 4)
    records = [some_record(rng, rdtype) for _ in range(count)]
    return dns.rrset.from_text(some_name(rng), 300, "IN", rdtype, *records)


def some_message(rng):
    """(type asked for, wire) of a well-formed answer about NAME."""
    rdtype = rng.choice(list(dnswire.TYPES))
    query = dns.message.from_wire(dnswire.make_query(rng.getrandbits(16), dnswire.question(NAME, rdtype)))
    message = dns.message.make_response(query, our_payload=1232)
    message.flags |= rng.choice([0, dns.flags.AD])
    message.set_rcode(rng.choice([0, 0, 0, 0, 2, 3, 5, 16, 23]))
    for _ in range(rng.randrange(5)):
        message.answer.append(some_rrset(rng, rng.choice([rdtype, rdtype, "CNAME", "DNAME", "NS"])))
    for _ in range(rng.randrange(2)):
        message.authority.append(some_rrset(rng, rng.choice(["SOA", "NS"])))
    for _ in range(rng.randrange(2)):
        message.additional.append(some_rrset(rng, rng.choice(["A", "AAAA", "TYPE65400"])))
    if rng.random() < 0.2:
        message.use_edns(False)
    return rdtype, message.to_wire(max_size=65535)


class Crafted:
    """A message written octet by octet, so that names may end in any pointer and anything may stand anywhere."""

    def __init__(self, rng):
        self.rng = rng
        self.rdtype = rng.choice(list(dnswire.TYPES))
        self.octets = bytearray(dnswire.make_query(rng.getrandbits(16), dnswire.question(NAME, self.rdtype))[:-11])
        self.places = [12, 17, 25]  # where labels of the question and of later names begin
        self.chained = rng.random() < 0.1  # every owner name a pointer to the one before
        self.lengthy = rng.random() < 0.1  # names near the limit of 255 octets

    def wire(self):
        counts = [self.rng.randrange(30 if self.chained else 4), self.rng.randrange(2), self.rng.randrange(3)]
        for section, count in enumerate(counts):
            for _ in range(count):
                self.record(section)
        flags = 0x8180 | self.rng.choice([0, 0, 0, 2, 3, 5]) | self.rng.choice([0, 0x20])
        self.octets[2:4] = flags.to_bytes(2, "big")
        self.octets[6:12] = b"".join(count.to_bytes(2, "big") for count in counts)
        return bytes(self.octets)

    def record(self, section):
        rng = self.rng
        rdtype = dnswire.TYPES[self.rdtype]
        if rng.random() < (0.3 if section == 0 else 0.9):
            rdtype = rng.choice([5, 5, 39, 39, 1, 2, 15, 41] if section == 0 else [41, 41, 2, 6])
        if rng.random() < 0.01:
            rdtype = 250
        if rdtype == 41 and rng.random() < 0.9:
            self.octets += b"\0"
        elif section == 0 and rng.random() < 0.4 and not self.chained:
            self.octets += b"\xc0\x0c"
        else:
            self.name(owner=True)
        rdclass = 1 if rng.random() < 0.95 else rng.choice([3, 255])
        ttl = rng.choice([60, 0, 0x01000000, 0xFF000000])
        self.octets += rdtype.to_bytes(2, "big") + rdclass.to_bytes(2, "big") + ttl.to_bytes(4, "big") + b"\0\0"
        begin = len(self.octets)
        self.data(rdtype)
        length = len(self.octets) - begin + (rng.choice([-1, 1]) if rng.random() < 0.02 else 0)
        self.octets[begin - 2 : begin] = max(length, 0).to_bytes(2, "big")

    def data(self, rdtype):
        rng = self.rng
        match rdtype:
            case 2 | 5 | 39:
                self.name()
            case 15:
                self.octets += bytes((0, rng.randrange(3)))
                self.name()
            case 16:
                for _ in range(rng.choice([0, 1, 1, 2])):
                    text = rng.randbytes(rng.randrange(3))
                    self.octets += bytes((len(text),)) + text
            case 1 | 28:
                self.octets += bytes(4 if rdtype == 1 else 15) + bytes(rdtype == 28)
            case _:
                self.octets += rng.randbytes(rng.randrange(5))

    def name(self, *, owner=False):
        rng = self.rng
        begin = len(self.octets)
        labels = 0 if owner and self.chained else rng.choice([0, 1, 1, 2])
        for size in [rng.choice([62, 63]) for _ in range(rng.choice([1, 2, 3]))] if self.lengthy else [1] * labels:
            self.places.append(len(self.octets))
            self.octets += bytes((size,)) + rng.choice([b"a", b"B", b"c"]) * size
        if self.lengthy and rng.random() < 0.5:
            size = rng.randrange(50, 64)
            self.octets += bytes((size,)) + b"d" * size
        here = len(self.octets)
        kind = rng.random()
        if kind < 0.3 and not (owner and self.chained):
            self.octets += b"\0"
            return
        target = self.places[-1] if self.chained else rng.choice(self.places)
        if kind > 0.97:
            target = rng.choice([begin, here, begin - 1, here + 1, rng.randrange(12, here + 2)])
        self.places.append(here)
        self.octets += (0xC000 | target).to_bytes(2, "big")


def mutated(rng, wire):
    """A few octets changed, cut, doubled or inserted, most of them behind the question."""
    octets = bytearray(wire)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 8])):
        where = (
            rng.randrange(len(octets))
            if rng.random() < 0.2
            else rng.randrange(min(28, len(octets) - 1), len(octets))
        )
        match rng.randrange(6):
            case 0 | 1:
                octets[where] = rng.randrange(256)
            case 2:
                octets[where] ^= 1 << rng.randrange(8)
            case 3:
                del octets[where : where + rng.randint(1, 6)]
            case 4:
                octets[where:where] = octets[where : where + rng.randint(1, 20)]
            case _:
                octets[where : where + 2] = (0xC000 | rng.randrange(12, max(13, len(octets)))).to_bytes(2, "big")
        if len(octets) < 30:
            break
    return bytes(octets)


def differential(count, seed):
    """Returns how many of `count` messages answered the question, and how many of those were well formed."""
    rng = random.Random(seed)
    answering = good = 0
    for _ in range(count):
        if rng.random() < 0.5:
            crafted = Crafted(rng)
            rdtype, wire = crafted.rdtype, crafted.wire()
        else:
            rdtype, wire = some_message(rng)
        if rng.random() < 0.7:
            wire = mutated(rng, wire)
        if compare(NAME, rdtype, wire):
            answering += 1
            good += lean(NAME, rdtype, wire) is not None
    return answering, good


if __name__ == "__main__":
    _answering, _good = differential(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    sys.stdout.write(f"agreed on {_answering} answers, {_good} of them well formed\n")
