"""`publish` from the command line: files, schema, refusals, and that no name in the data leaves the house."""

import hashlib
import json
import os
import random
import re
import stat
import sys
from pathlib import Path
from subprocess import run

import pytest
from censuses import Census, _certificate, store
from jsonschema import Draft202012Validator
from sqlalchemy import create_engine

from storage.database import open_database

MXCENSUS = Path(sys.executable).with_name("mxcensus")
FILES = {"release.json", "release.csv", "release.md", "release.schema.json", "manifest.json"}
HOSTILE = "=evil<b>\x1b[31m`x`|leak.example"


def mxcensus(*arguments, status=0):
    environment = {**os.environ, "HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"}
    done = run(
        [MXCENSUS, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=110, env=environment
    )
    assert done.returncode == status, (done.stdout, done.stderr)
    return done


def census(operators=60, *, text=None, seed=1):
    """Many operators with a host or three each, so that something can be shown."""
    rng = random.Random(seed)
    found = Census()
    for number in range(30):
        _certificate(rng, found, number, text)
    for sha, row in found.certificates.items():
        row["hierarchy"] = rng.choice(["public-chrome", "public-chrome", "private", "self-signed"])
        row["programs"] = ["chrome", "mozilla"] if row["hierarchy"] == "public-chrome" else []
        row["ca_owner"] = (text or "Owner A") if row["programs"] else None
        row["eku_class"] = rng.choice(["server+client", "server-only"])
        dual = bool(row["programs"]) and row["eku_class"] == "server+client"
        row["exposure"] = rng.choice(["2027-03", "2027-06"]) if dual else "not-affected"
        row["serial"] = sha[:20]
    for operator in range(operators):
        for place in range(rng.choice([1, 1, 2, 3])):
            host = f"mx{place}.operator{operator}.example"
            found.hosts[host] = f"operator{operator}.example"
            address = f"192.0.{operator % 250}.{place + 1}"
            found.addresses[host] = [address]
            failed = rng.random() < 0.3
            found.endpoints.append(
                {
                    "mx_host": host,
                    "address": address,
                    "port": 25,
                    "attempt": 1,
                    "reason": None,
                    "status": "failed" if failed else "measured",
                    "stage": "connect" if failed else "quit",
                    "failure": "refused" if failed else None,
                    "client_auth": "untested" if failed else rng.choice(["not-requested", "requested"]),
                    "certificate": None if failed else rng.choice(list(found.certificates)),
                    "tls_version": None if failed else rng.choice(["TLSv1.2", "TLSv1.3"]),
                    "software": None if failed else (text or rng.choice(["postfix", "exim"])),
                }
            )
            found.domains.append(
                {"domain": f"customer{operator}-{place}.example", "weight": None, "routing": "mx", "mx": [host]}
            )
    return found


def write(path, *censuses):
    url = f"sqlite:///{path}"
    open_database(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        for one in censuses:
            store(connection, one)
    engine.dispose()
    return url


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return write(tmp_path_factory.mktemp("stored") / "census.db", census())


@pytest.fixture(scope="module")
def released(stored, tmp_path_factory):
    directory = tmp_path_factory.mktemp("released") / "release"
    mxcensus("publish", "--db", stored, "-o", directory, "--population", "all of example", "--min-count", 5)
    return directory


def read(directory):
    return json.loads((directory / "release.json").read_text())


def test_a_release_validates_against_the_schema_beside_it(released):
    schema = json.loads((released / "release.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(read(released))


def test_the_manifest_has_every_file_s_digest_and_what_made_it(released):
    manifest = json.loads((released / "manifest.json").read_text())
    assert {path.name for path in released.iterdir()} == FILES
    assert set(manifest["files"]) == FILES - {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((released / name).read_bytes()).hexdigest() == digest
    assert manifest["source"]["population"] == "all of example"
    assert manifest["source"]["trust"] == {"id": "test", "as_of": "2026-03-01"}
    assert (manifest["source"]["rules_version"], manifest["source"]["disclosure_version"]) == ("1", "1")
    assert manifest["method"]["min_count"] == 5


def test_files_are_written_by_nobody_else(released):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in released.iterdir()}
    assert set(modes.values()) == {0o644}


def test_numbers_are_the_same_in_every_format(released):
    document = read(released)
    shown = [row for figure in document["figures"] for row in figure["rows"] if row["count"] is not None]
    hidden = [row for figure in document["figures"] for row in figure["rows"] if row["count"] is None]
    assert shown
    assert hidden
    lines = (released / "release.csv").read_text().splitlines()
    assert len(lines) == 1 + len(shown) + len(hidden)
    text = (released / "release.md").read_text()
    eku = next(f for f in document["figures"] if (f["id"], f["unit"]) == ("eku", "mx_host"))
    for row in eku["rows"]:
        if row["count"] is not None:
            assert row["share"] == row["count"] / eku["coverage"]["measured"]
            assert re.search(rf"\| {re.escape(row['key']['eku'])} \|.* {row['count']} \(", text)
    assert "Of " in text


def test_no_name_in_the_data_leaves_the_house(tmp_path):
    one = census(text=HOSTILE)
    url = write(tmp_path / "census.db", one)
    mxcensus("publish", "--db", url, "-o", tmp_path / "out", "--min-count", 3)
    names = {*one.hosts, *one.hosts.values(), *(row["domain"] for row in one.domains)}
    names |= {address for addresses in one.addresses.values() for address in addresses}
    names |= {value for row in one.certificates.values() for value in (row["sha256"], row["serial"], row["issuer"])}
    names |= {HOSTILE, "leak.example", "evil", "random"}
    for path in (tmp_path / "out").iterdir():
        text = path.read_text()
        assert [name for name in names if name in text] == [], path.name
    owners = [f for f in read(tmp_path / "out")["figures"] if f["id"] == "issuers"]
    assert {row["key"]["ca_owner"] for f in owners for row in f["rows"]} >= {"other", "private"}


def test_too_few_operators_are_refused_and_nothing_is_written(tmp_path):
    url = write(tmp_path / "census.db", census(8))
    done = mxcensus("publish", "--db", url, "-o", tmp_path / "out", status=1)
    assert len(done.stderr.splitlines()) == 1
    assert "refused" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_directory_with_something_else_is_left_alone(stored, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = mxcensus("publish", "--db", stored, "-o", tmp_path, "--min-count", 5, status=2)
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_publishing_again_is_the_same_and_replaces_the_first(stored, released, tmp_path):
    arguments = ("--db", stored, "--population", "all of example", "--min-count", 5)
    for _ in range(2):
        mxcensus("publish", *arguments, "-o", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert (tmp_path / "out" / "release.json").read_bytes() == (released / "release.json").read_bytes()


def test_beside_an_earlier_release_of_the_same_scan_nothing_new_is_shown(stored, released, tmp_path):
    mxcensus("publish", "--db", stored, "-o", tmp_path / "out", "--min-count", 3, "--previous", released)
    first, second = read(released), read(tmp_path / "out")
    digest = hashlib.sha256((released / "release.json").read_bytes()).hexdigest()
    assert second["method"]["previous"] == [digest]
    assert shown(second) == shown(first)
    mxcensus("publish", "--db", stored, "-o", tmp_path / "alone", "--min-count", 3)
    assert len(shown(read(tmp_path / "alone"))) > len(shown(first))
    done = mxcensus(
        "publish", "--db", stored, "-o", tmp_path / "no", "--min-count", 25, "--previous", released, status=1
    )
    assert "earlier release" in done.stderr


def shown(document):
    return {
        (figure["id"], figure["unit"], *row["key"].values())
        for figure in document["figures"]
        for row in figure["rows"]
        if row["count"] is not None
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--min-count", "2"],
        ["--round", "0"],
        ["--previous", "/nonexistent/release.json"],
        ["--scan", "99"],
    ],
)
def test_bad_input_is_one_line_and_status_2(stored, tmp_path, arguments):
    done = mxcensus("publish", "--db", stored, "-o", tmp_path / "out", *arguments, status=2)
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "mxcensus release", "format_version": 1}', "[" * 100_000]
)
def test_a_previous_file_that_is_no_release_is_one_line(stored, tmp_path, text):
    (tmp_path / "release.json").write_text(text)
    done = mxcensus(
        "publish", "--db", stored, "-o", tmp_path / "out", "--previous", tmp_path / "release.json", status=2
    )
    assert len(done.stderr.splitlines()) == 1
