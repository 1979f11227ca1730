"""What `make fuzz` fuzzes, each a function of octets that raises where the program is wrong.

`TARGETS` has them by name; `tests/corpus/NAME/` has the inputs that each begins with, written by
`python tests/fuzztargets.py`. The suite runs every target over its corpus and mutations of it (`test_fuzz`);
`scripts/fuzz.py` lets atheris, which watches coverage, look for more.
"""

import random
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from dnsjudge import NAME, Crafted, compare, some_message
from smtpfake import certificate_message, certificate_request, make_certificate, record

from scanner import der, names
from scanner.certificates import parse
from scanner.classify import Classifier
from scanner.der import DerError
from scanner.exclusions import BadExclusion, Exclusions
from scanner.handshake_records import certificates_in
from scanner.records import Target
from scanner.replies import MAX_LINE, MAX_REPLY, MalformedReplyError, ReplyReader
from scanner.targets import BadLine, parse_domain, read_targets
from scanner.trust import BadSnapshot, bundled, load

CORPUS = Path(__file__).parent / "corpus"
TYPES = ("A", "AAAA", "MX", "TXT", "TLSA")


def dns_message(data):
    """The lean reader and dnspython agree; the first octet says what was asked for."""
    compare(NAME, TYPES[data[0] % len(TYPES)] if data else "A", data[1:])


def smtp_replies(data):
    """The same replies however the network cuts them, each within its bounds."""
    data = data[: MAX_REPLY + MAX_LINE]
    whole, bytewise = replies([data]), replies([data[i : i + 1] for i in range(len(data))])
    assert whole == bytewise, data
    for reply in whole:
        assert reply is None or (200 <= reply.code < 600 and reply.lines and reply.text is not None)


def replies(chunks):
    """Every reply; None at the end says that the rest is malformed."""
    reader, found = ReplyReader(), []
    try:
        for chunk in chunks:
            reader.feed(chunk)
            while (reply := reader.next_reply()) is not None:
                found.append(reply)
    except MalformedReplyError:
        found.append(None)
    return found


@cache
def classifiers():
    snapshot = bundled()
    return Classifier(snapshot), Classifier(snapshot)


def certificate(data):
    """The input as a subject, as an issuer of itself, and as a list."""
    subjects, issuers = classifiers()
    read = parse(data)
    assert read.der == data
    assert read.readable or read.parse_error
    assert subjects.classify(read).sha256 == read.sha256
    issuers.chain_complete([read, read])


def ca_names(data):
    """Names of a CertificateRequest as text, and the certificate_list beside it in records."""
    for listed in certificates_in(data):
        parse(listed)
    assert not any(ord(character) < 0x20 or ord(character) == 0x7F for character in names.shown(data))
    with suppress(DerError):
        assert names.name_key(data) is not None


def target_file(data):
    """Every line is a target, a bad line or nothing; a name once read is read as itself."""
    for item in read_targets(data.splitlines(keepends=True), "file"):
        if isinstance(item, Target):
            assert parse_domain(item.domain) == item.domain
        else:
            assert isinstance(item, BadLine)
            assert item.why.isprintable()
            assert item.text_excerpt.isprintable()
    with suppress(BadExclusion):
        Exclusions.parse(data.decode("utf-8", "surrogateescape").splitlines(), "file").domain("a.example")


class File:
    """A file of a snapshot that is no file."""

    def __init__(self, name, data):
        self.name, self.data = name, data

    def read_text(self, encoding):
        return self.data.decode(encoding)


class Folder(dict):
    def iterdir(self):
        return self.values()

    def __truediv__(self, name):
        return self.get(name) or File(name, b"")


SNAPSHOT = ("snapshot.toml", "roots.csv", "roots.pem")
CUT = b"\n=====\n"


def snapshot(data):
    """A snapshot is loaded or refused in one line."""
    parts = data.split(CUT, 2)
    folder = Folder((name, File(name, part)) for name, part in zip(SNAPSHOT, parts, strict=False))
    with suppress(BadSnapshot):
        assert load(folder).measurable is not None


TARGETS = {
    "dns": dns_message,
    "replies": smtp_replies,
    "certificates": certificate,
    "ca-names": ca_names,
    "targets": target_file,
    "snapshots": snapshot,
}


# ------------------------------------------------------------------------------------------------- the corpus


def corpus(name):
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def _dns_seeds():
    rng = random.Random(7)
    for _ in range(8):
        crafted = Crafted(rng)
        yield bytes([TYPES.index(crafted.rdtype)]) + crafted.wire()
        rdtype, wire = some_message(rng)
        yield bytes([TYPES.index(rdtype)]) + wire


def _seeds():
    """Small and valid, by target: mutation does the rest."""
    yield "dns", list(_dns_seeds())
    dialogues = sorted((Path(__file__).parent / "dialogues").glob("*.txt"))
    said = [
        b"".join(line[3:].encode() + b"\r\n" for line in path.read_text().splitlines() if line.startswith("S:"))
        for path in dialogues
    ]
    yield "replies", sorted({*said, b"220 a\n220-b\r\n220\r\n", b"250-" + b"x" * MAX_LINE} - {b""}, key=len)[:16]
    made, _ = make_certificate()
    leaf = made.public_bytes(Encoding.DER)
    some = [root.certificate.der for root in list(bundled().roots.values())[:8]]
    yield "certificates", [leaf, *sorted(some, key=len)[:4]]
    endless = der.encode(6, b"\x2a" + b"\xff" * 2000 + b"\x7f") + der.encode(0x0C, b"x")  # an arc of 4,200 digits
    subjects = [made.subject.public_bytes(), b"0\x00", b"0\x80\0\0"]
    subjects.append(der.encode(0x30, der.encode(0x31, der.encode(0x30, endless))))
    records = record(22, certificate_message([leaf, leaf]) + certificate_request(subjects))
    yield "ca-names", [*subjects, records]
    lines = (
        b"rank,domain\n1,example.org\n2,m\xc3\xbcnchen.example\n",
        b"a.example\n# c\n*.b.example\nmx:c.example\n",
    )
    yield "targets", [*lines, b"domain,weight\na.example,1.5\n", b"192.0.2.0/24\n2001:db8::/32\nhttp://x/\n"]
    parts = [b'id = "x"\nas_of = 2026-01-01\n[sources]\nchrome = "y"\n']
    root = min(bundled().roots.values(), key=lambda root: len(root.certificate.der)).certificate
    days = f"{root.not_before:%Y-%m-%d},{root.not_after:%Y-%m-%d}"
    header = "sha256,subject,not_before,not_after,mozilla,chrome,apple,microsoft,chrome_sct_not_after"
    parts.append(f"{header}\n{root.sha256},x,{days},server,server;client,unknown,,2027-01-01T00:00:00Z\n".encode())
    parts.append(x509.load_der_x509_certificate(root.der).public_bytes(Encoding.PEM))
    yield "snapshots", [CUT.join(parts), CUT.join(parts[:1]), b""]


def write_corpus():
    for name, seeds in _seeds():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (folder / f"{number:02}").write_bytes(seed)


if __name__ == "__main__":
    write_corpus()
    sys.stdout.write(f"{sum(1 for path in CORPUS.rglob('*') if path.is_file())} inputs\n")
