"""The second look: both certificates of a server with two, one connection more, and nothing else changed."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from smtpfake import ecdsa_certificate, make_certificate, rsa_certificate, server_context, serving
from storing import SEED, new_scan, store
from test_lab_scan import exported, scan

from lab.world import World
from mxcensus import reporting
from mxcensus.cli import build_parser
from mxcensus.commands.scan import make_plan
from mxcensus.second_looks import look_again, planned
from reports.definitions import Unit
from scanner import certificates
from scanner.records import Endpoint
from scanner.session import SessionSettings, observe
from storage import reader
from storage.purge import purge
from storage.second_looks import Due

HOST = "mx.test"
EKU = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def now():
    return datetime.now(UTC)


def with_both(first, second, version=None):
    context = server_context(version, certificates=first)
    context.use_certificate(second[0])
    context.use_privatekey(second[1])
    return context


def other_eku():
    return make_certificate(key=rsa.generate_private_key(65537, 2048), extensions=(EKU,))


def only_tls13():
    context = server_context()
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    return context


SERVERS = {
    "both": (lambda: with_both(ecdsa_certificate(), rsa_certificate()), "same-eku"),
    "both-with-another-eku": (lambda: with_both(ecdsa_certificate(), other_eku()), "other-eku"),
    "ecdsa": (server_context, "none"),
    "rsa": (lambda: server_context(certificates=rsa_certificate()), "none"),
    "tls13-only": (only_tls13, "unknown"),
}


def serves(context):
    def script(peer):
        peer.until_starttls()
        peer.tls(context)
        peer.rest()

    return script


def plan_of(folder, *more):
    words = ("scan", "example.org", "--db", f"sqlite:///{folder}/x.db", "--interval", "0", "--per-operator", "100",
             "--allow-special-purpose", "--timeout", "8", "--resolver", "127.0.0.1:9",
             "--both-key-types")  # fmt: skip
    return make_plan(build_parser().parse_args([*words, *more]))


async def first_look(database, port):
    endpoint = Endpoint(HOST, "127.0.0.1", port)
    seen = await observe(endpoint, 1, SessionSettings("scanner.example", 8.0), now)
    number = await new_scan(database)
    await store(database, number, *map(certificates.parse, seen.certificate_list), seen)
    return number


@pytest.mark.parametrize("kind", SERVERS)
async def test_what_a_second_look_comes_to(kind, database, tmp_path):
    make, expected = SERVERS[kind]
    with serving(serves(make())) as (port, peers):
        number = await first_look(database, port)
        rows = list(reader.endpoints(database, number, lambda *_: True))
        info = database.scan_info(number)
        await look_again(plan_of(tmp_path), database, info, (), asyncio.Event())
        await look_again(plan_of(tmp_path), database, info, (), asyncio.Event())  # there is nothing left to look at
    assert len(peers) == 2
    assert list(reader.endpoints(database, number, lambda *_: True)) == rows
    figure = reporting.build(database, number).figure("second_certificate", Unit.ENDPOINT)
    assert {row.key: row.count for row in figure.rows} == {(expected,): 1}
    kept = {row["key_type"]: row["role"] for row in reader.certificates(database, number)}
    assert set(kept.values()) == {"server"}
    assert len(kept) == (2 if kind.startswith("both") else 1)
    purge(database, host=HOST)
    assert not list(reader.certificates(database, number))


async def test_opt_outs_and_failed_sessions_are_not_looked_at(database, tmp_path):
    (tmp_path / "optouts").write_text(f"mx:{HOST}\n")
    with serving(serves(server_context())) as (port, peers):
        number = await first_look(database, port)
        info = database.scan_info(number)
        await look_again(
            plan_of(tmp_path, "--exclude", str(tmp_path / "optouts")), database, info, (), asyncio.Event()
        )
    assert len(peers) == 1
    with serving(lambda peer: (peer.until_starttls(), peer.tls(server_context()), peer.close())) as (port, peers):
        number = await first_look(database, port)
        await look_again(plan_of(tmp_path), database, database.scan_info(number), (), asyncio.Event())
    assert len(peers) == 1


def test_no_address_is_looked_at_before_its_interval():
    at = datetime(2026, 3, 1, tzinfo=UTC)
    page = [
        Due(Endpoint(f"mx{n}.example", "192.0.2.1", 25), "rsa", at + timedelta(seconds=n)) for n in range(3)
    ] + [Due(Endpoint("mx9.example", "192.0.2.9", 25), "ec", at)]
    times = {one.endpoint.mx_host: one.not_before for one in planned(page, SEED, 60.0)}
    assert times == {
        **dict.fromkeys(("mx0.example", "mx1.example", "mx2.example"), at + timedelta(seconds=62)),
        "mx9.example": at + timedelta(seconds=60),
    }


FLEETING = {"started_at", "duration_ms"}


def test_a_scan_of_the_lab_is_the_same_with_and_without(tmp_path):
    with World(60, tmp_path) as lab:
        found, summaries, visits = {}, {}, {}
        for name, option in (("once", ()), ("twice", ("--both-key-types",))):
            (folder := tmp_path / name).mkdir()
            before = len(lab.visits)
            summaries[name] = scan(lab, folder, *option)
            visits[name] = len(lab.visits) - before
            found[name] = [
                {key: value for key, value in row.items() if key not in FLEETING}
                for row in exported(folder, "endpoints")
            ]
    assert found["once"] == found["twice"]
    well = [r for r in found["once"] if r["status"] == "measured" and r["failure"] is None and r["certificate"]]
    assert visits["twice"] - visits["once"] == len(well) > 10
    assert summaries["once"]["certificates"] == summaries["twice"]["certificates"]  # none of the lab has two
