"""`mxcensus experiment`: one connection a variant, the server's own verdict, and nobody's machine without leave."""

import asyncio
import io
import json
from collections import Counter
from contextlib import chdir, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from types import SimpleNamespace
from unittest import mock

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from OpenSSL import SSL
from smtpfake import EHLO_AFTER, make_certificate, server_context, serving
from storing import SEED, measured, new_scan, routing, store

from lab.issue import Issued, Leaf, make_ca, make_leaf, new_key
from lab.world import World
from mxcensus import cli, lab_certificates
from scanner.client_certificates import BadClientCertificate, read_variant
from scanner.experiment import every, one_a_host
from scanner.records import ClientAuth, Endpoint
from storage import experiments
from storage.database import open_database

NOW = datetime.now(UTC)
LABELS = ("none", "server-only", "client-only", "both", "no-eku")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    lab_certificates.made(folder / "ca")
    return folder


def mxcensus(folder, *words, status=0):
    """The program in this process, with an empty settings folder; a new one would cost a second each."""
    out, err = io.StringIO(), io.StringIO()
    with (
        chdir(folder),
        mock.patch.dict("os.environ", {"XDG_CONFIG_HOME": str(folder / "config")}),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        assert cli.main(["experiment", *map(str, words)]) == status, err.getvalue()
    return SimpleNamespace(stdout=out.getvalue(), stderr=err.getvalue())


def ekus(peer):
    """OIDs of the client certificate that a fake server was shown; None for none."""
    certificate = peer._tls.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        return None
    found = [e for e in certificate.extensions if e.oid.dotted_string == "2.5.29.37"]
    return {oid.dotted_string for oid in found[0].value} if found else {"any use"}


CLIENT = {"1.3.6.1.5.5.7.3.2", "any use"}


def judging(version, refuse):
    """A server that asks, and calls `refuse(peer)` for a client certificate without clientAuth."""

    def script(peer):
        peer.until_starttls()
        peer.tls(server_context(version, ask=True))
        shown = ekus(peer)
        if shown is not None and not shown & CLIENT:
            refuse(peer)
        else:
            peer.rest(
                EHLO_AFTER.replace(b"mx.test\r\n", b"mx.test\r\n250-AUTH EXTERNAL\r\n") if shown else EHLO_AFTER
            )

    return script


def reply(peer):
    peer.hear()
    peer.say(b"421 4.7.1 your certificate is not for clients\r\n")


def insisting(version):
    """A server whose TLS library ends the handshake without a certificate that is for clients."""

    def script(peer):
        peer.until_starttls()
        context = server_context(version, require=True)

        def verify(_connection, certificate, _number, _depth, _ok):
            names = [e for e in certificate.to_cryptography().extensions if e.oid.dotted_string == "2.5.29.37"]
            return not names or any(oid.dotted_string in CLIENT for oid in names[0].value)

        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        peer.tls(context)
        peer.rest()

    return script


def experiment_on(folder, *words, status=0):
    """An experiment on loopback; the object that it prints."""
    manners = ("--interval", 0, "--per-operator", 100, "--timeout", 10)
    done = mxcensus(folder, *words, *manners, "--allow-special-purpose", "--json", status=status)
    return json.loads(done.stdout)


def experiment(folder, port, *more):
    words = ("127.0.0.1", "--port", port, "--make-certificates", folder / "ca")
    return experiment_on(folder, *words, *more)


def verdicts(found):
    return {row["variant"]: (row["outcome"], row["tls_alert"], row["reply_code"]) for row in found["trials"]}


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_replies_and_keywords(folder, version):
    with serving(judging(version, reply)) as (port, peers):
        found = experiment(folder, port)
    accepted, refused = ("accepted", None, None), ("reply", None, 421)
    assert verdicts(found) == dict.fromkeys(LABELS, accepted) | {"server-only": refused}
    assert len(peers) == len(LABELS)
    assert not any(line.startswith("AUTH") for peer in peers for line in peer.received)
    rows = {row["variant"]: row for row in found["trials"]}
    assert found["trials"][0]["variant"] == "none"
    assert (rows["both"]["keywords_added"], rows["both"]["keywords_removed"]) == (["AUTH EXTERNAL"], [])
    assert rows["none"]["keywords_added"] is rows["server-only"]["keywords_added"] is None
    assert (rows["server-only"]["client_auth"], rows["none"]["client_auth"]) == ("required", "requested")
    assert [rows[label]["presented"] for label in LABELS] == [False, True, True, True, True]
    assert {row["tls_version"] for row in found["trials"]} == {version}


@pytest.mark.parametrize(("version", "without"), [("TLSv1.2", 40), ("TLSv1.3", 116)])
def test_alerts_have_their_number(folder, version, without):
    with serving(insisting(version)) as (port, peers):
        found = verdicts(experiment(folder, port))
    assert found["none"] == ("alert", without, None)
    assert found["server-only"][:1] == ("alert",)
    assert found["server-only"][1] in range(42, 49)
    assert {found[label][0] for label in ("client-only", "both", "no-eku")} == {"accepted"}
    assert len(peers) == len(LABELS)


def test_every_connection_is_in_the_log(folder):
    with serving(judging("TLSv1.3", reply)) as (port, peers):
        experiment(folder, port, "--connection-log", "log")
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    assert [(line["address"], line["port"]) for line in lines] == [("127.0.0.1", port)] * len(peers)
    assert len(lines) == len(LABELS)
    (folder / "log").unlink()


def test_a_close(folder):
    with serving(judging("TLSv1.3", lambda peer: peer.close_notify())) as (port, _):
        assert verdicts(experiment(folder, port))["server-only"] == ("closed", None, None)


def test_a_server_that_does_not_ask_is_shown_nothing(folder):
    def script(peer):
        peer.until_starttls()
        peer.tls(server_context())
        assert ekus(peer) is None
        peer.rest()

    with serving(script) as (port, _):
        found = experiment(folder, port)
    assert {row["outcome"] for row in found["trials"]} == {"accepted"}
    assert not any(row["presented"] for row in found["trials"])


def test_an_address_that_asks_for_a_pause_is_left_alone(folder):
    """No more is tried on it, and nothing is tried again: what was left says so."""

    def busy(peer):
        peer.until_starttls()
        peer.tls(server_context(ask=True))
        peer.hear()
        peer.say(b"421 4.7.0 too many connections\r\n")

    with serving(busy) as (port, peers):
        found = experiment(folder, port)
    outcomes = Counter((row["outcome"], row["reason"]) for row in found["trials"])
    assert outcomes == {("reply", None): 1, ("not-tested", "parked"): len(LABELS) - 1}
    assert len(peers) == 1
    (row,) = [row for row in found["trials"] if row["outcome"] == "reply"]
    assert row["client_auth"] == "requested-unknown"


def test_the_order_is_random_by_the_seed(folder):
    endpoints = [Endpoint(f"mx{n}.example", f"127.0.0.{n}", 25) for n in range(1, 40)]
    first = every(endpoints, LABELS, 1)
    assert first == every(reversed(endpoints), LABELS, 1)
    assert first != every(endpoints, LABELS, 2)
    assert Counter(first) == Counter(dict.fromkeys(first, 1))
    assert len(first) == 39 * len(LABELS)
    drawn = one_a_host([*endpoints, Endpoint("mx1.example", "127.0.1.1", 25)], LABELS, 1)
    assert len(drawn) == 39
    assert set(Counter(one.variant for one in drawn)) == set(LABELS)


def test_what_is_stored_says_who_presented_what(folder, tmp_path):
    lab_certificates.made(tmp_path / "ca")
    with serving(judging("TLSv1.3", reply)) as (port, _):
        found = experiment(tmp_path, port, "--approval", "board 7", "--seed", 5)
    database = open_database(f"sqlite:///{tmp_path}/census.db", create=False)
    with database.reading() as connection:
        (row,) = connection.exec_driver_sql("SELECT approval, seed, variants, finished_at FROM experiment").all()
    database.close()
    assert (row.approval, row.seed) == ("board 7", 5)
    assert row.finished_at is not None
    stored = {one["label"]: one["eku_class"] for one in json.loads(row.variants)}
    assert stored == {"server-only": "server-only", "client-only": "client-only", "both": "server+client",
                      "no-eku": "absent"}  # fmt: skip
    assert json.loads(mxcensus(tmp_path, "--show", found["experiment"], "--json").stdout) == found
    assert "no experiment 99" in mxcensus(tmp_path, "--show", 99, status=2).stderr


SCRIPTED = {
    "good": ("accepted", None, None),
    "asks": ("accepted", None, None),
    "asks-tls12": ("accepted", None, None),
    "requires-421": ("reply", None, 421),
    "requires-421-unasked": ("reply", None, 421),
    "requires-503": ("reply", None, 503),
    "requires-close": ("closed", None, None),
    "requires-alert": ("alert", 116, None),
    "requires-alert-tls12": ("alert", 40, None),
    "asks-then-resets": ("failed", None, None),
    "asks-then-busy": ("reply", None, 421),
}
"""What the lab's scripts do to a session without a certificate; only the two with alerts look at one."""


def test_the_scripted_servers_of_the_lab(tmp_path):
    with World(60, tmp_path) as lab:
        hosts = {host.kind.behaviour: host for host in lab.population.hosts if host.kind.behaviour in SCRIPTED}
        found = experiment_on(
            tmp_path, *(host.address for host in hosts.values()), "--make-certificates", "ca", "--port", lab.port,
            "--ehlo-name", "census.example.net", "--contact", "the tests",
        )  # fmt: skip
        visits = Counter(visit.address for visit in lab.visits)
    rows = {(row["address"], row["variant"]): row for row in found["trials"]}
    assert set(hosts) == set(SCRIPTED)
    for behaviour, expected in SCRIPTED.items():
        trials = {label: rows[hosts[behaviour].address, label] for label in LABELS}
        outcomes = {label: (row["outcome"], row["tls_alert"], row["reply_code"]) for label, row in trials.items()}
        if behaviour == "asks-then-busy":  # it is left alone after that, and is not one that requires
            assert Counter(outcomes.values()) == {expected: 1, ("not-tested", None, None): len(LABELS) - 1}
            assert {row["client_auth"] for row in trials.values()} == {"requested-unknown", None}
        elif "alert" in behaviour:
            assert outcomes == dict.fromkeys(LABELS, ("accepted", None, None)) | {"none": expected}
        else:
            assert outcomes == dict.fromkeys(LABELS, expected), behaviour
        assert visits[hosts[behaviour].address] == (1 if behaviour == "asks-then-busy" else len(LABELS))


# -------------------------------------------------------------------------------------- the machines of others


SCANNED = {
    "asks.example": ("9.9.9.1", ClientAuth.REQUESTED),
    "insists.example": ("9.9.9.2", ClientAuth.REQUIRED),
    "silent.example": ("9.9.9.3", ClientAuth.NOT_REQUESTED),
    "unknown.example": ("9.9.9.4", ClientAuth.REQUESTED_UNKNOWN),
    "neighbour.example": ("9.9.9.2", ClientAuth.REQUESTED),
}


async def test_only_those_seen_asking_and_never_insisting(database):
    scan = await new_scan(database)
    hosts = {name: Endpoint(name, address, 25) for name, (address, _) in SCANNED.items()}
    await store(
        database,
        scan,
        *(routing(name, (10, name, [address])) for name, (address, _) in SCANNED.items()),
        *(measured(hosts[name], client_auth=verdict) for name, (_, verdict) in SCANNED.items()),
    )

    def why(endpoint):
        with database.reading() as connection:
            return experiments.refusal(*experiments.seen(connection, scan, SEED, endpoint))

    assert {name: why(one) for name, one in hosts.items()} == {
        "asks.example": None,
        "insists.example": "seen-as-required",
        "silent.example": "not-seen-as-requested",
        "unknown.example": "not-seen-as-requested",
        "neighbour.example": "seen-as-required",  # another name of an address that insists
    }
    assert why(Endpoint("asks.example", "9.9.9.1", 26)) == "not-seen-as-requested"
    assert why(Endpoint("never.example", "9.9.9.9", 25)) == "not-seen-as-requested"
    # The last attempt counts.
    await store(database, scan, measured(hosts["asks.example"], attempt=2, client_auth=ClientAuth.REQUIRED))
    assert why(hosts["asks.example"]) == "seen-as-required"


def strangers(folder, *more, status):
    certificates = ["--client-cert", f"both={folder / 'ca' / 'both.pem'}"]
    return mxcensus(folder, "9.9.9.9", "--resolver", "127.0.0.1:9", *certificates, *more, status=status)


def test_strangers_need_an_approval_a_name_and_a_scan(tmp_path):
    lab_certificates.made(tmp_path / "ca")
    me = ("--ehlo-name", "census.example.net", "--contact", "the tests")
    assert "--approval" in strangers(tmp_path, *me, status=2).stderr
    assert "--approval" in strangers(tmp_path, *me, "--approval", " ", status=2).stderr
    assert "--contact" in strangers(tmp_path, "--approval", "board 7", status=2).stderr
    assert "no scan" in strangers(tmp_path, *me, "--approval", "board 7", status=2).stderr


def test_a_stranger_that_no_scan_saw_asking_is_not_contacted(tmp_path):
    lab_certificates.made(tmp_path / "ca")
    database = open_database(f"sqlite:///{tmp_path}/census.db")
    asyncio.run(new_scan(database))
    database.close()
    me = ("--ehlo-name", "census.example.net", "--contact", "the tests", "--approval", "board 7")
    done = strangers(tmp_path, *me, status=1)
    assert done.stdout == "9.9.9.9 [9.9.9.9]:25  none: not tested: not-seen-as-requested\n"


def test_exclusions_and_special_purpose_addresses_hold(folder, tmp_path):
    (tmp_path / "optouts").write_text("127.0.0.0/8\n")
    options = ("--client-cert", f"both={folder / 'ca' / 'both.pem'}", "--json")
    for more, reason in (
        (("--exclude", "optouts", "--allow-special-purpose"), "excluded"),
        ((), "special-purpose"),
    ):
        found = json.loads(mxcensus(tmp_path, "127.0.0.1", *options, *more, status=1).stdout)
        assert [(row["outcome"], row["reason"]) for row in found["trials"]] == [("not-tested", reason)]


def test_many_hosts_need_a_name(folder, tmp_path):
    hosts = [f"127.0.0.{n}" for n in range(1, 12)]
    done = mxcensus(tmp_path, *hosts, "--client-cert", f"a={folder / 'ca' / 'both.pem'}", status=2)
    assert "--ehlo-name" in done.stderr


# ------------------------------------------------------------------------------------------------- bad input


def pem(certificate, key=None, encryption=None):
    text = certificate.public_bytes(Encoding.PEM)
    if key is not None:
        text += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return text


def issued(**leaf):
    key = new_key()
    authority = Issued(make_ca("CA", key, NOW), key)
    return make_leaf(Leaf(eku="client-only", **leaf), "client.example", authority, NOW)


GOOD = issued()
EXPIRED = issued(expired=True)
FUTURE = issued(age=-10)
SECRET = BestAvailableEncryption(b"open sesame")


@pytest.mark.parametrize(
    ("text", "passphrase", "says"),
    [
        (b"", None, "no certificate"),
        (b"\xff\xfe\x00", None, "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None, "no certificate"),
        (pem(GOOD.certificate), None, "no private key"),
        (pem(GOOD.certificate, new_key()), None, "does not belong"),
        (pem(GOOD.certificate, GOOD.key) * 2, None, "2 private keys"),
        (pem(GOOD.certificate, GOOD.key, SECRET), None, "encrypted"),
        (pem(GOOD.certificate, GOOD.key, SECRET), b"wrong", "passphrase is wrong"),
        (pem(GOOD.certificate) + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", None, "broken"),
        (pem(EXPIRED.certificate, EXPIRED.key), None, "expired on"),
        (pem(FUTURE.certificate, FUTURE.key), None, "not valid before"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_refused_before_the_first_packet(text, passphrase, says, tmp_path):
    with pytest.raises(BadClientCertificate, match=says) as error:
        read_variant("a", text, "file.pem", passphrase, NOW)
    assert str(error.value).startswith("file.pem: ")
    assert "\n" not in str(error.value)
    if passphrase is None:
        (tmp_path / "file.pem").write_bytes(text)
        with serving(lambda peer: peer.rest()) as (port, peers):
            arguments = ("--client-cert", "a=file.pem", "--port", port, "--allow-special-purpose")
            done = mxcensus(tmp_path, "127.0.0.1", *arguments, status=2)
        assert done.stderr == f"mxcensus: {error.value}\n"
        assert not peers
        assert not (tmp_path / "census.db").exists()


def test_good_ones_are_read():
    certificate, key = make_certificate()
    for text, passphrase in (
        (pem(GOOD.certificate, GOOD.key), None),
        (pem(GOOD.certificate, GOOD.key), b"not needed"),
        (pem(GOOD.certificate, GOOD.key, SECRET), b"open sesame"),
        (pem(certificate, key), None),
    ):
        assert read_variant("a", text, "file.pem", passphrase, NOW).label == "a"
    chain = read_variant("a", pem(GOOD.certificate, GOOD.key) + pem(GOOD.above[0]), "file.pem", None, NOW)
    assert len(chain.certificate.certificate_list) == 2
    assert chain.eku_class == "client-only"


@pytest.mark.parametrize(
    "words",
    [
        ("127.0.0.1", "--client-cert", "none=x.pem"),
        ("127.0.0.1", "--client-cert", "x.pem"),
        ("127.0.0.1", "--client-cert", "a="),
        ("127.0.0.1", "--client-cert", "a=gone.pem"),
        ("127.0.0.1", "--client-cert", "a=."),
        ("127.0.0.1", "--make-certificates", "ca", "--client-cert", "both=x.pem"),
        ("127.0.0.1",),
        ("no host", "--make-certificates", "ca"),
        ("-f", "hosts", "--make-certificates", "ca"),
        (),
    ],
)
def test_bad_usage_is_one_line(words, tmp_path):
    (tmp_path / "hosts").write_text("# mine\nmx.example\n..\n")
    done = mxcensus(tmp_path, *words, status=2)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "census.db").exists()
    if "-f" in words:
        assert "hosts:3:" in done.stderr


def test_a_folder_that_is_half_ours_is_refused(tmp_path):
    lab_certificates.made(tmp_path)
    files = lab_certificates.made(tmp_path)
    before = {label: file.read_bytes() for label, file in files.items()}
    assert {label: file.read_bytes() for label, file in lab_certificates.made(tmp_path).items()} == before
    assert all(file.stat().st_mode & 0o077 == 0 for file in files.values())
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(lab_certificates.BadFolder):
        lab_certificates.made(tmp_path)
