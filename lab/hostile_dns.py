"""Name servers that lie, loop, flood and break off, and what a census must say of the domains that they answer for.

One table, as `lab.hostile` has for mail servers: what is answered about a domain, and the fields of its row. A
domain of the table is `BEHAVIOUR.liar.example`; its script answers for all names at and below it. Whoever hears the
truth behind a lie finds the mail host that the zone was given.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from lab.dns import TTL, framed
from lab.hosts import Fields

PARENT = "liar.example"
MX_KEPT, ADDRESSES_KEPT = 50, 20
"""The bounds that the documentation promises (docs/robustness.md)."""

SET = 1000
LONGEST = 65_535
POINTER_TO_QUESTION = b"\xc0\x0c"
FLOOD = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a liar: about `name`, of `kind`, over UDP or TCP; `truth` is what an honest server says."""

    query: dns.message.Message
    domain: str
    name: str
    kind: str
    udp: bool
    truth: bytes

    def answer(self, *records: str, rcode: int = 0, flags: int = 0, longest: int = LONGEST) -> bytes:
        """A well-formed response; records are lines as in a zone file."""
        response = dns.message.make_response(self.query, recursion_available=True)
        response.flags |= flags
        response.set_rcode(dns.rcode.Rcode(rcode))
        for record in records:
            owner, kind, data = record.split(" ", 2)
            response.answer.append(dns.rrset.from_text(owner, TTL, "IN", kind, data))
        return response.to_wire(max_size=longest)

    def lie(self) -> bytes:
        """A forged answer to the question about mail."""
        return self.answer(f"{self.domain}. MX 1 forged.{self.domain}.")

    def raw(self, *records: bytes, count: int | None = None) -> bytes:
        """A response whose answer section is these octets, said to be `count` records."""
        head = self.query.id.to_bytes(2, "big") + b"\x81\x80\0\1"
        number = len(records) if count is None else count
        question = _question(self.query)
        return head + number.to_bytes(2, "big") + bytes(4) + question + b"".join(records)


def _question(query: dns.message.Message) -> bytes:
    """The question section of a query, as it came."""
    asked = query.question[0]
    name = asked.name.to_wire()
    assert name is not None
    return name + asked.rdtype.to_bytes(2, "big") + asked.rdclass.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A datagram that comes from another port, or with `address` from another address too."""

    datagram: bytes
    address: str = "127.0.0.1"


Said = Iterable[bytes | Elsewhere]
Script = Callable[[Asked], Said]


@dataclass(frozen=True, slots=True)
class Liar:
    """One row of the table: `expected` has what is other than the truth; None: it is heard after all.

    `framed`: what it says over TCP has its length in front, right or wrong.
    """

    script: Script
    expected: Fields | None = None
    framed: bool = False


def nowhere(rcode: str | None = None, routing: str = "error") -> Fields:
    return {"routing": routing, "rcode": rcode, "mx": [], "mta_sts": None}


def _lies_then_truth(asked: Asked, *, lie: Callable[[Asked], bytes | Elsewhere]) -> Said:
    """The lie about mail comes first; about all else there is nothing but the truth."""
    if asked.kind == "MX" and asked.udp:
        yield lie(asked)
    yield asked.truth


def _always(asked: Asked, *, says: Callable[[Asked], bytes]) -> Said:
    yield says(asked)


def _wrong_id(asked: Asked) -> bytes:
    return (asked.query.id ^ 0x5555).to_bytes(2, "big") + asked.lie()[2:]


def _other_question(asked: Asked) -> bytes:
    forged = dns.message.make_query(f"other.{asked.domain}", asked.kind, id=asked.query.id)
    return dns.message.make_response(forged, recursion_available=True).to_wire()


def _other_type(asked: Asked) -> bytes:
    forged = dns.message.make_query(asked.name, "TXT", id=asked.query.id)
    return dns.message.make_response(forged, recursion_available=True).to_wire()


def _flooded(asked: Asked) -> Said:
    noise = random.Random(0)
    for _ in range(FLOOD):
        yield noise.randbytes(40)
    yield asked.truth


def _record(rdata: bytes, owner: bytes = POINTER_TO_QUESTION, length: int | None = None) -> bytes:
    """An MX record in wire form."""
    return owner + b"\0\x0f\0\1" + TTL.to_bytes(4, "big") + (length or len(rdata)).to_bytes(2, "big") + rdata


def _pointing(asked: Asked, *, at: int) -> bytes:
    """An exchange that is a pointer `at` octets behind its own place; 0 is to itself."""
    place = len(asked.raw()) + 12 + 2  # behind the record's head and the preference
    return asked.raw(_record(b"\0\x0a" + (0xC000 | place + at).to_bytes(2, "big")))


def _pointer_ring(asked: Asked) -> bytes:
    """Two exchanges of which each points to the other."""
    first = len(asked.raw()) + 12 + 2
    second = first + 2 + 12 + 2
    return asked.raw(*(_record(b"\0\x0a" + (0xC000 | place).to_bytes(2, "big")) for place in (second, first)))


def _pointer_chain(asked: Asked) -> bytes:
    """Exchanges of one octet-long label and a pointer to the one before: more pointers than anybody needs."""
    records, place = [], len(asked.raw())
    target = POINTER_TO_QUESTION
    for _ in range(40):
        records.append(_record(b"\0\x0a" + target))
        target = (0xC000 | place + 12 + 2).to_bytes(2, "big")
        place += len(records[-1])
    return asked.raw(*records)


def _alias_loop(asked: Asked) -> bytes:
    return asked.answer(f"{asked.domain}. CNAME a.{asked.domain}.", f"a.{asked.domain}. CNAME {asked.domain}.")


def _alias_chain(asked: Asked) -> bytes:
    names = [asked.domain, *(f"a{number}.{asked.domain}" for number in range(40))]
    aliases = [f"{name}. CNAME {target}." for name, target in itertools.pairwise(names)]
    return asked.answer(*aliases, f"{names[-1]}. MX 10 mx.{asked.domain}.")


def _cut(asked: Asked, large: bytes) -> Said:
    """What does not go into a datagram, truncated over UDP and whole over TCP."""
    yield asked.answer(flags=dns.flags.TC) if asked.udp else large


def _large_set(asked: Asked, *, hosts: int) -> Said:
    if asked.kind != "MX":
        return [asked.truth]
    records = [f"{asked.domain}. MX {10 + number} h{number}.{asked.domain}." for number in range(hosts)]
    return _cut(asked, asked.answer(*records))


def _large_host(asked: Asked) -> Said:
    """A mail host with as many addresses; nobody listens there."""
    if asked.kind == "MX":
        return [asked.answer(f"{asked.domain}. MX 10 wide.{asked.domain}.")]
    if asked.kind != "A" or not asked.name.startswith("wide."):
        return [asked.truth]
    addresses = [f"{asked.name}. A {address}" for address in itertools.islice(_nobody(), SET)]
    return _cut(asked, asked.answer(*addresses))


def _nobody() -> Iterator[str]:
    return (f"127.255.{number // 250}.{1 + number % 250}" for number in itertools.count())


def _texts(asked: Asked, *, texts: Callable[[], list[str]]) -> Said:
    """Mail is routed; the _mta-sts record is something else."""
    if asked.kind == "TXT":
        return _cut(asked, asked.answer(*(f"{asked.name}. TXT {text}" for text in texts())))
    return [asked.truth]


def _garbage() -> list[str]:
    noise = random.Random(1)
    return [_quoted(noise.randbytes(length)) for length in (0, 1, 255, 200)] + ['"v=STSv1; id="', '"v=STSv1" ""']


def _64_kb() -> list[str]:
    return [_quoted(bytes([65 + number % 26]) * 250 + str(number).encode()) for number in range(240)]


def _quoted(data: bytes) -> str:
    return '"' + "".join(f"\\{octet:03d}" for octet in data) + '"'


def _over_tcp(asked: Asked, *, says: Callable[[bytes], bytes]) -> Said:
    """Truncated over UDP; over TCP `says` makes octets of the truth, as they are."""
    yield asked.answer(flags=dns.flags.TC) if asked.udp else says(framed(asked.truth))


def _expected_set(domain: str, hosts: int) -> Fields:
    names = [f"h{number}.{domain}" for number in range(hosts)]
    rows = [_mx_row(10 + number, host, "truncated") for number, host in enumerate(names[:MX_KEPT])]
    return {"routing": "mx", "rcode": "NOERROR", "mx": rows}


def _mx_row(preference: int, host: str, *notes: str) -> Fields:
    return {"preference": preference, "host": host, "addresses": [], "notes": list(notes)}


def _expected_host(domain: str) -> Fields:
    addresses = sorted(itertools.islice(_nobody(), SET))[:ADDRESSES_KEPT]
    row = {**_mx_row(10, f"wide.{domain}", "truncated"), "addresses": addresses}
    return {"routing": "mx", "rcode": "NOERROR", "mx": [row]}


def _odd_names(asked: Asked) -> Said:
    """Exchanges that are no host names: spaces, NUL, dots inside a label, a label of a control character."""
    if asked.kind != "MX":
        return [asked.truth]
    labels = (b"\x05a b c", b"\x03a\0b", b"\x03a.b", b"\x01\x07")
    return [asked.raw(*(_record(b"\0\x0a" + label + POINTER_TO_QUESTION) for label in labels))]


def named(name: str) -> str:
    return f"{name}.{PARENT}"


def _heard_after_all() -> Iterator[tuple[str, Liar]]:
    for name, lie in (
        ("wrong-id", _wrong_id),
        ("other-question", _other_question),
        ("other-type", _other_type),
        ("a-query-for-an-answer", lambda asked: asked.query.to_wire()),
        ("other-port", lambda asked: Elsewhere(asked.lie())),
        ("other-address", lambda asked: Elsewhere(asked.lie(), "127.0.0.2")),
        ("empty-datagram", lambda _: b""),
        ("half-a-header", lambda asked: asked.lie()[:7]),
        ("said-twice", lambda asked: asked.truth),
    ):
        yield name, Liar(partial(_lies_then_truth, lie=lie))
    yield "flood", Liar(_flooded)


def _malformed() -> Iterator[tuple[str, Liar]]:
    for name, says in (
        ("pointer-to-itself", partial(_pointing, at=0)),
        ("pointer-forwards", partial(_pointing, at=4)),
        ("pointer-ring", _pointer_ring),
        ("pointer-chain", _pointer_chain),
        ("counts-that-lie", lambda asked: asked.raw(count=65_535)),
        ("more-than-it-says", lambda asked: asked.truth + b"\0"),
        ("record-beyond-the-end", lambda asked: asked.raw(_record(b"\0\x0a\0", length=60_000))),
        ("cut-in-a-record", lambda asked: asked.lie()[:-4]),
        ("reserved-label", lambda asked: asked.raw(_record(b"\0\x0a\x80\0"))),
    ):
        yield name, Liar(partial(_always, says=says), nowhere())


def _over_tcp_only() -> Iterator[tuple[str, Liar]]:
    for name, says in (
        ("truncated-for-ever", lambda _: b""),
        ("cut-over-tcp", lambda wire: wire[:-3]),
        ("wrong-id-over-tcp", lambda wire: wire[:2] + bytes([wire[2] ^ 0x55]) + wire[3:]),
        ("garbage-over-tcp", lambda _: b"\x20\0" + bytes(range(250))),
    ):
        yield name, Liar(partial(_over_tcp, says=says), nowhere(), framed=True)


LIARS: dict[str, Liar] = {
    **dict(_heard_after_all()),
    **dict(_malformed()),
    **dict(_over_tcp_only()),
    "lies-only": Liar(partial(_always, says=_wrong_id), nowhere()),
    "silent": Liar(lambda _: (), nowhere()),
    "refused": Liar(partial(_always, says=lambda asked: asked.answer(rcode=5)), nowhere("REFUSED")),
    "alias-loop": Liar(partial(_always, says=_alias_loop), nowhere("NOERROR", "none")),
    "alias-chain": Liar(partial(_always, says=_alias_chain), nowhere("NOERROR", "none")),
    "mx-set-of-1000": Liar(partial(_large_set, hosts=SET), _expected_set(named("mx-set-of-1000"), SET)),
    "mx-set-of-64-kb": Liar(partial(_large_set, hosts=2700), _expected_set(named("mx-set-of-64-kb"), 2700)),
    "host-of-1000-addresses": Liar(_large_host, _expected_host(named("host-of-1000-addresses"))),
    "exchanges-that-are-no-names": Liar(
        _odd_names,
        {
            "routing": "mx",
            "rcode": "NOERROR",
            "mx": [
                _mx_row(10, f"{label}.{named('exchanges-that-are-no-names')}", "bad-name")
                for label in sorted((r"a\032b\032c", r"a\000b", r"a\.b", r"\007"))
            ],
        },
    ),
    "txt-garbage": Liar(partial(_texts, texts=_garbage), {"mta_sts": "record-invalid"}),
    "txt-of-64-kb": Liar(partial(_texts, texts=_64_kb), {"mta_sts": "none"}),
}


def domains() -> list[str]:
    """The domains of the table."""
    return [named(name) for name in LIARS]


def expected(truth: Fields) -> dict[str, Fields]:
    """Domain -> fields of its row; `truth` are those of a domain with the mail host of the zone."""
    return {named(name): truth | (liar.expected or {}) for name, liar in LIARS.items()}


def matrix() -> str:
    """The table as Markdown; `as it is` where the truth is heard."""
    rows = [
        "| behaviour | routing | rcode | MX hosts | addresses | notes | mta_sts |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, liar in LIARS.items():
        rows.append(f"| {name} | {' | '.join(_cells(liar.expected))} |")
    return "\n".join(rows)


def _cells(fields: Fields | None) -> list[str]:
    if fields is None:
        return ["as it is"] * 6
    mx = fields.get("mx")
    if not isinstance(mx, list):
        return [*["as it is"] * 5, str(fields["mta_sts"])]
    notes = sorted({note for host in mx for note in host["notes"]})
    numbers = [len(mx), sum(len(host["addresses"]) for host in mx)]
    said = [
        fields["routing"],
        fields["rcode"] or "none",
        *numbers,
        ", ".join(notes) or "none",
        fields.get("mta_sts", "none") or "none",
    ]
    return [str(one) for one in said]
