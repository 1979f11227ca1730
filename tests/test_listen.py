"""`mxcensus listen`: what clients present is counted, mail is refused, hostile peers cost little."""

import asyncio
import contextlib
import datetime as dt
import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import select
from test_lab_scan import mxcensus

from lab.authority import Authority, Leaf
from mxcensus.listening import SessionLog, context_for
from scanner.listener import BadCertificate, Listener, ListenSettings, prefix, server_context
from storage.database import open_database
from storage.schema import sighting

NAME, CONTACT = "count.example.net", "https://count.example.net/"
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def authority():
    return Authority()


def pem(folder, authority, eku):
    issued, listed = authority.issue(Leaf(eku=eku), f"{eku.replace('+', '-and-')}.example.org")
    file = folder / f"{eku}.pem"
    key = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in listed) + key)
    return file


@contextlib.contextmanager
def listening(folder, *options):
    """The program in a process of its own; the port, and at the end its tally."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mxcensus", "listen", "--port", port, "--name", NAME, "--contact", CONTACT]
    running = subprocess.Popen(
        [*map(str, command), *map(str, options)],
        cwd=folder,
        env=os.environ | {"XDG_CONFIG_HOME": str(folder / "config")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    tally = {}
    try:
        assert "listening" in running.stderr.readline()
        yield port, tally
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=60)
        assert running.returncode == 0, err
        assert "Traceback" not in err
        tally.update(json.loads(out))
    finally:
        running.kill()
        running.communicate()


def deliver(port, certificate=None, version=ssl.TLSVersion.TLSv1_3):
    """Try to deliver; the reply to MAIL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, version
    if certificate:
        context.load_cert_chain(certificate)
    with smtplib.SMTP("127.0.0.1", port, local_hostname="out.example.org", timeout=20) as client:
        client.starttls(context=context)
        client.ehlo()
        assert not client.has_extn("starttls")
        return client.mail("someone@example.org")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_clients_present_is_counted_and_exported(tmp_path, authority, version):
    ekus = ("server+client", "server-only", "client-only", "absent")
    with listening(tmp_path, "--sessions", "sessions.jsonl") as (port, tally):
        for eku in (*ekus, "client-only", None):
            file = pem(tmp_path, authority, eku) if eku else None
            code, text = deliver(port, file, version)
            assert (code, CONTACT in text.decode()) == (450, True)
    assert (tally["sessions"], tally["with_tls"], tally["with_certificate"]) == (6, 6, 5)
    assert tally["eku"] == {**dict.fromkeys(ekus, 1), "client-only": 2}
    assert tally["hierarchy"] == {"undetermined": 5}  # the lab's root is neither sent nor in the bundled snapshot
    mxcensus(tmp_path, "export", "--what", "certificates", "--format", "jsonl", "-o", "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    clients = [row["eku_class"] for row in rows if row["role"] == "client"]
    assert sorted(clients) == sorted((*ekus, "client-only"))  # a renewed one is another certificate
    assert {row["role"] for row in rows} == {"client", "ca"}
    report_of_clients(tmp_path, ekus, version)
    sessions = [json.loads(line) for line in (tmp_path / "sessions.jsonl").read_text().splitlines()]
    assert {one["prefix"] for one in sessions} == {"127.0.0.0/24"}
    assert {one["ehlo_name"] for one in sessions} == {"out.example.org"}
    assert {one["tls_version"] for one in sessions} == {version.name.replace("v1_", "v1.")}
    assert [len(one["certificate_list"]) for one in sessions] == [2, 2, 2, 2, 2, 0]
    assert "127.0.0.1" not in (tmp_path / "sessions.jsonl").read_text()


def report_of_clients(folder, ekus, version):
    """The same figures as of servers, in role client."""
    report = json.loads(mxcensus(folder, "report", "--format", "json").stdout)
    figures = {(one["id"], one["unit"]): one for one in report["figures"] if one["role"] == "client"}
    certificates, sessions = figures["eku", "certificate"], figures["eku", "weight"]
    for figure in (certificates, sessions):
        counts = {row["key"]["eku"]: row["count"] for row in figure["rows"]}
        assert counts == {**dict.fromkeys(ekus, 1), "client-only": 2}
    assert sessions["coverage"] == {"attempted": 6, "measured": 5, "not_measured": {"no-certificate": 1}}
    assert certificates["coverage"] == {"attempted": 5, "measured": 5, "not_measured": {}}
    (version_row,) = figures["tls_versions", "weight"]["rows"]
    assert version_row["key"] == {"tls_version": version.name.replace("v1_", "v1.")}
    need = {tuple(row["key"].values()): row["count"] for row in figures["client_need", "certificate"]["rows"]}
    assert need == {("yes", "yes", "no"): 3, ("no", "yes", "no"): 1, ("absent", "yes", "no"): 1}
    assert ("eku", "operator") not in figures


def test_who_the_peers_were_is_forgotten_in_time(tmp_path, authority):
    with listening(tmp_path) as (port, _):
        deliver(port, pem(tmp_path, authority, "client-only"))
    database = open_database(f"sqlite:///{tmp_path}/census.db")
    count = database.write(lambda c: c.execute(sighting.update().values(seen_at=NOW)).rowcount)
    with listening(tmp_path, "--retention-days", "30") as (port, _):
        deliver(port, pem(tmp_path, authority, "client-only"))
    with database.reading() as connection:
        rows = connection.execute(select(sighting).order_by(sighting.c.scan_id)).all()
    database.close()
    assert count == 1
    assert [(row.seen_at is None, row.prefix, row.ehlo_name) for row in rows] == [
        (True, None, None),
        (False, "127.0.0.0/24", "out.example.org"),
    ]
    assert [(row.tls_version, row.day is None, row.sha256 is None) for row in rows] == [
        ("TLSv1.3", False, False)
    ] * 2


HOSTILE = {
    "line too long": b"EHLO " + b"x" * 5000 + b"\r\n",
    "plain text after STARTTLS": b"EHLO a\r\nSTARTTLS\r\nMAIL FROM:<>\r\n",
    "handshake failed": b"STARTTLS\r\n",
    "too many commands": b"AUTH PLAIN\r\n" * 100,
    "timeout": b"EHLO a",
}


@contextlib.asynccontextmanager
async def listener(**limits):
    sessions = []

    async def record(session):
        sessions.append(session)

    settings = ListenSettings(NAME, CONTACT, **({"timeout": 5} | limits))
    running = Listener(settings, context_for(None, NAME), record, lambda: NOW)
    port = await running.start("127.0.0.1", 0)
    await running.serve()
    try:
        yield port, sessions, running
    finally:
        await running.stop()


@pytest.mark.parametrize("ended", HOSTILE)
async def test_hostile_peers_are_recorded_and_left(ended):
    async with listener(**({"timeout": 0.3} if ended == "timeout" else {})) as (port, sessions, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        writer.write(HOSTILE[ended])
        if ended == "handshake failed":
            await reader.readline()
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            replies = await asyncio.wait_for(reader.read(), 10)
            assert b"\n5" not in b"\n" + replies  # never for good
        writer.close()
    assert [session.ended for session in sessions] == [ended]
    assert sessions[0].certificate_list == ()


async def test_a_prefix_and_all_together_are_limited():
    for limits in ({"per_address": 2}, {"max_connections": 2}):
        async with listener(**limits) as (port, sessions, running):
            peers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            assert [(await reader.readline())[:3] for reader, _ in peers] == [b"220", b"220"]
            reader, third = await asyncio.open_connection("127.0.0.1", port)
            assert (await reader.readline()).startswith(b"421 ")
            peers[0][1].write(b"QUIT\r\n")
            await peers[0][0].read()
            reader, fourth = await asyncio.open_connection("127.0.0.1", port)
            assert (await reader.readline()).startswith(b"220 ")
            assert running.turned_away == 1
            for writer in (third, fourth, *(one for _, one in peers)):
                writer.close()
        assert len(sessions) == 3


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2002:c000:24d:1::5", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
    ],
)
def test_only_the_prefix_of_an_address_is_kept(address, kept):
    assert prefix(address) == kept


def test_a_certificate_without_its_key_is_refused(tmp_path, authority):
    good, other = (pem(tmp_path, authority, eku).read_bytes() for eku in ("absent", "any"))
    server_context(good, "good.pem")
    (certificates, _), (_, key) = (one.split(b"-----BEGIN PRIVATE") for one in (good, other))
    for bad in (b"nothing", certificates, certificates + b"-----BEGIN PRIVATE" + key):
        with pytest.raises(BadCertificate, match=r"bad\.pem"):
            server_context(bad, "bad.pem")


def test_sessions_older_than_the_retention_go(tmp_path):
    file = tmp_path / "sessions.jsonl"
    times = (NOW - dt.timedelta(days=8), NOW - dt.timedelta(days=6))
    file.write_text("".join(json.dumps({"started_at": time.isoformat()}) + "\n" for time in times))
    SessionLog(file).forget(NOW - dt.timedelta(days=7))
    assert [json.loads(line)["started_at"] for line in file.read_text().splitlines()] == [times[1].isoformat()]
