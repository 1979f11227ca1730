"""Certificates out of the files that people have."""

import base64
import contextlib
import gzip
import json
import random
import tracemalloc
from datetime import date

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hierarchies import intermediate, leaf, root

from scanner.inputs import BadInput, SourcedCertificate, read_certificates
from scanner.records import Role

TOP = root()
MIDDLE = intermediate(TOP)
END = leaf(MIDDLE)
LIST = [END, MIDDLE, TOP]
DERS = [issued.certificate.der for issued in LIST]


def read(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [item.der for item in read_certificates(path)]


def bag(encoding):
    loaded = [x509.load_der_x509_certificate(data) for data in DERS]
    return pkcs7.serialize_certificates(loaded, encoding)


PEM = "".join(issued.pem for issued in LIST)
FORMS = {
    "pem": PEM,
    "pem with text between": "subject=CN=a\n"
    + LIST[0].pem
    + "\n\nissuer: x\n"
    + LIST[1].pem
    + "noise"
    + "\n"
    + LIST[2].pem,
    "pem with a private key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + PEM,
    "pem with other line ends": PEM.replace("\n", "\r\n"),
    "trusted pem": "".join(
        "-----BEGIN TRUSTED CERTIFICATE-----\n"
        + base64.b64encode(data + b"\x30\x02\x05\x00").decode()
        + "\n-----END TRUSTED CERTIFICATE-----\n"
        for data in DERS
    ),
    "der one after another": b"".join(DERS),
    "gzip": gzip.compress(PEM.encode()),
    "json lines": "\n".join(json.dumps({"der": base64.b64encode(data).decode()}) for data in DERS),
    "json lines of pem": "\n\n" + "\n".join(json.dumps({"pem": issued.pem}) for issued in LIST) + "\n",
    "json with a whole list": json.dumps({"pem": PEM}),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path, form):
    assert read(tmp_path / "file", FORMS[form]) == DERS


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_pkcs7(tmp_path, encoding):
    assert sorted(read(tmp_path / "file.p7b", bag(encoding))) == sorted(DERS)


def test_pkcs7_keeps_a_certificate_that_cannot_be_read(tmp_path):
    broken = bytearray(bag(Encoding.DER))
    at = bytes(broken).index(b"mx.example.com")
    broken[at - 2] = 0x1F  # the tag of a string in a name
    assert len(read(tmp_path / "file", bytes(broken))) == 3


def test_one_der(tmp_path):
    assert read(tmp_path / "one", DERS[0]) == DERS[:1]


def test_a_directory_is_read_in_the_order_of_names_and_says_where(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.pem").write_text(LIST[2].pem)
    (tmp_path / "a.pem").write_text(LIST[0].pem + LIST[1].pem)
    (tmp_path / "README").write_text("no certificate here")
    found = list(read_certificates(tmp_path))
    assert [item.der for item in found] == DERS
    assert [item.source for item in found] == [
        str(tmp_path / "a.pem"),
        f"{tmp_path / 'a.pem'}:2",
        str(tmp_path / "b" / "x.pem"),
    ]


def test_json_lines_say_role_count_operator_and_day(tmp_path):
    line = {
        "pem": END.pem + MIDDLE.pem,
        "role": "client",
        "count": 7,
        "operator": "example.com",
        "day": "2025-12-01",
    }
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(line) + "\n")
    first, second = read_certificates(path)
    assert first == SourcedCertificate(f"{path}:1", DERS[0], Role.CLIENT, 7, "example.com", date(2025, 12, 1))
    assert (second.role, second.der) == (Role.CA, DERS[1])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not a JSON object on one line"),
        ("[" * 100_000, "not a JSON object on one line"),
        ('"x"', "not a JSON object on one line"),
        ("{}", "neither pem nor der nor sha256"),
        ('{"der": 3}', "neither pem nor der nor sha256"),
        ('{"der": "!"}', "der is not base64"),
        ('{"pem": "hello"}', "pem holds no certificate"),
        ('{"der": "AAAA", "role": "mail"}', "role is one of server, client, ca, found 'mail'"),
        ('{"der": "AAAA", "count": 0}', "count is a whole number from 1, found 0"),
        ('{"der": "AAAA", "count": true}', "count is a whole number from 1, found True"),
        ('{"der": "AAAA", "day": "Monday"}', "day is a date YYYY-MM-DD, found 'Monday'"),
        ('{"der": "AAAA", "operator": []}', "operator is text, found []"),
    ],
    ids=lambda value: value[:30],
)
def test_a_bad_line_is_named_and_can_be_skipped(tmp_path, line, why):
    path = tmp_path / "log.jsonl"
    good = json.dumps({"pem": END.pem})
    path.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(BadInput) as caught:
        list(read_certificates(path))
    assert str(caught.value) == f"{path}:2: {why}"
    skipped = []
    found = list(read_certificates(path, skipped=lambda *what: skipped.append(what)))
    assert len(found) == 2
    assert skipped == [(f"{path}:2", why)]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"hello\n", b"\0\1\2" * 100, b"0\x82\xff\xff", DERS[0][:100], b"0\x80" + b"\0" * 50],
    ids=["empty", "blank", "text", "binary", "cut off at once", "cut off", "indefinite"],
)
def test_a_file_without_any_certificate_is_one_clear_line(tmp_path, content):
    path = tmp_path / "file"
    with pytest.raises(BadInput) as caught:
        read(path, content)
    assert str(caught.value) == f"{path}: no certificate in it (PEM, DER, PKCS#7 and JSON Lines are read)"


def test_a_path_that_is_not_there_or_empty(tmp_path):
    with pytest.raises(BadInput, match="no such file or directory"):
        list(read_certificates(tmp_path / "nothing"))
    with pytest.raises(BadInput, match="no certificate in it"):
        list(read_certificates(tmp_path))


def test_a_block_that_is_no_base64(tmp_path):
    path = tmp_path / "file"
    path.write_text("\n-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n" + END.pem)
    with pytest.raises(BadInput, match="line 2: CERTIFICATE is not base64"):
        list(read_certificates(path))
    assert [item.der for item in read_certificates(path, skipped=lambda *_: None)] == DERS[:1]


def test_a_broken_gzip_file(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(PEM.encode())[:-20])
    with pytest.raises(BadInput, match="a broken gzip file"):
        list(read_certificates(path))


def test_lines_stream_in_constant_memory(tmp_path):
    line = json.dumps({"der": base64.b64encode(DERS[0]).decode()}) + "\n"
    path = tmp_path / "many.jsonl"
    path.write_text(line * 20_000)
    tracemalloc.start()
    assert sum(1 for _ in read_certificates(path)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000 < path.stat().st_size


def test_random_bytes_are_never_worse_than_bad_input(tmp_path):
    generator = random.Random(1)
    path = tmp_path / "file"
    for _ in range(200):
        data = bytearray(generator.choice([bag(Encoding.DER), DERS[0], PEM.encode()]))
        for _ in range(4):
            data[generator.randrange(len(data))] = generator.randrange(256)
        with contextlib.suppress(BadInput):
            read(path, bytes(data))
