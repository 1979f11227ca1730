"""The lab itself is right, by judges that are not ours: smtplib, ssl, dnspython and the openssl command."""

import csv
import hashlib
import json
import os
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
import tomllib
from datetime import timedelta

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lab.authority import SCT_LIMIT, Authority, Leaf
from lab.dns import Zone
from lab.hosts import BEHAVIOURS, KINDS, expected_certificate, expected_endpoint, measured
from lab.population import Population, cell_size, populate
from lab.process import LabError, WorldProcess
from lab.world import World
from scanner.records import ClientAuth, EkuClass, Failure, Hierarchy, Routing, Stage, Status


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(cell_size(), tmp_path_factory.mktemp("lab")) as world:
        yield world


def read_to_the_end(sock):
    while sock.recv(4096):
        pass


def host_of(world, kind):
    """(name, address) of the host of a kind in the first cell."""
    (domain,) = [domain for domain in world.population.domains if domain == f"{kind}-0.example"]
    (name,) = world.population.routes[domain]
    (address,) = world.population.addresses(name)
    return name, address


def tls(version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        context.maximum_version = version
    return context


def session(world, name, address, version=None):
    """What Python's own client meets: (end entity DER, TLS version, code of the second EHLO)."""
    with smtplib.SMTP(timeout=10) as client:
        client.connect(address, world.port)
        client._host = name  # what smtplib sends as server_name
        client.ehlo("tests.example")
        assert client.has_extn("starttls")
        client.starttls(context=tls(version))
        der, spoken = client.sock.getpeercert(binary_form=True), client.sock.version()
        return der, spoken, client.ehlo("tests.example")[0]


def lines(world, kind, *says):
    """What a server of a kind answers in clear text, line by line."""
    _, address = host_of(world, kind)
    with socket.create_connection((address, world.port), timeout=10) as sock, sock.makefile("rb") as stream:
        answers = [stream.readline()]
        for command in says:
            sock.sendall(command.encode() + b"\r\n")
            while (line := stream.readline())[3:4] == b"-":
                answers.append(line)
            answers.append(line)
        return [answer.decode().rstrip() for answer in answers]


# ------------------------------------------------------------------------------------------------- the table


def expected(of, name):
    return {fields[name] for kind in KINDS.values() if name in (fields := of(kind))}


def test_the_table_has_every_outcome_that_a_lab_can_show():
    assert expected(expected_endpoint, "hierarchy") - {None} == {str(item) for item in Hierarchy}
    assert expected(expected_certificate, "effective_eku_class") == {str(item) for item in EkuClass}
    assert expected(expected_endpoint, "client_auth") == {str(item) for item in ClientAuth}
    never = {Failure.UNREACHABLE, Failure.TIMEOUT, Failure.LOCAL}  # not by a server on loopback, or not in time
    assert expected(expected_endpoint, "failure") - {None} == {str(item) for item in Failure} - set(never)
    assert expected(expected_endpoint, "stage") == {str(item) for item in Stage}
    assert {"measured", "failed"} == expected(expected_endpoint, "status") <= {str(item) for item in Status}


def test_a_population_is_the_same_each_time_and_cut_to_size():
    whole = populate(300, "127.77")
    assert whole == populate(300, "127.77")
    assert len(whole.domains) == len(set(whole.domains)) == len(whole.expected_domains) == 300
    assert {row["routing"] for row in whole.expected_domains.values()} == {str(item) for item in Routing}
    assert len({(host.name, host.address) for host in whole.hosts}) == len(whole.hosts)
    small = populate(7, "127.77")
    assert small.domains == whole.domains[:7]
    assert {host for host, _ in small.expected_endpoints} == {h for d in small.domains for h in small.routes[d]}


# ----------------------------------------------------------------------------------------------- certificates


def test_every_host_presents_its_own_certificate(world):
    """By server_name where several hosts share an address; `good` in SMTP, whatever is in the certificate."""
    seen = {}
    for host in world.population.hosts:
        if host.kind.behaviour == "good":
            der, _, code = session(world, host.name, host.address)
            assert code == 250
            seen[host.name, host.address] = hashlib.sha256(der).hexdigest()
    assert len(set(seen.values())) == len(seen) > 40
    assert seen == {key: world.presented[key][0] for key in seen}


def judged_by_openssl():
    """OpenSSL verifies no certificate that it finds broken, so those two have no say here."""
    return [
        name
        for name, kind in KINDS.items()
        if measured(kind) and kind.leaf.eku != "unparsable" and not kind.leaf.unreadable
    ]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command")
@pytest.mark.parametrize("name", judged_by_openssl())
def test_openssl_verifies_exactly_the_complete_lists(tmp_path, name):
    """By the snapshot's roots and the server's own list, whatever the time."""
    kind = KINDS[name]
    authority = Authority()
    authority.write_snapshot(tmp_path)
    pems = [ssl.DER_cert_to_PEM_cert(der) for der in authority.present(kind.leaf, "mx.test").certificate_list]
    (tmp_path / "leaf.pem").write_text(pems[0])
    (tmp_path / "others.pem").write_text("".join(pems[1:]) or pems[0])
    done = subprocess.run(
        ["openssl", "verify", "-no_check_time", "-CAfile", tmp_path / "roots.pem",
         "-untrusted", tmp_path / "others.pem", tmp_path / "leaf.pem"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == expected_endpoint(kind)["chain_complete"], done.stderr


EKU_TEXT = {
    "eku-server-client": "TLS Web Server Authentication, TLS Web Client Authentication",
    "eku-server-only": "TLS Web Server Authentication",
    "eku-client-only": "TLS Web Client Authentication",
    "eku-any": "Any Extended Key Usage",
    "eku-any-and-server": "Any Extended Key Usage, TLS Web Server Authentication",
    "eku-neither": "E-mail Protection",
    "eku-all-and-email": "TLS Web Server Authentication, TLS Web Client Authentication, E-mail Protection",
}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command")
@pytest.mark.parametrize("name", [*EKU_TEXT, "eku-absent", "eku-unparsable", "unreadable"])
def test_openssl_reads_the_usages_that_the_table_names(name):
    ders = Authority().present(KINDS[name].leaf, "mx.test").certificate_list
    done = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-noout", "-text"], input=ders[0], capture_output=True, check=True
    )
    _, found, after = done.stdout.decode().partition("X509v3 Extended Key Usage: \n")
    assert bool(found) == (name != "eku-absent")
    if name in EKU_TEXT:
        assert after.splitlines()[0].strip() == EKU_TEXT[name]
    assert ("Bad time value" in done.stdout.decode()) == (name == "unreadable")


def test_an_unreadable_certificate_is_refused_by_a_strict_reader_and_presented_all_the_same(world):
    der, _, code = session(world, *host_of(world, "unreadable"))
    assert code == 250
    with pytest.raises(ValueError, match="pars"):
        x509.load_der_x509_certificate(der)


def test_scts_lie_on_their_side_of_the_limit():
    authority = Authority()
    for name, before in (("sct-in-time", True), ("sct-late", False)):
        certificate = authority.issue(KINDS[name].leaf, "mx.test")[0].certificate
        scts = certificate.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
        (moment,) = [sct.timestamp for sct in scts]
        limit = (authority.now - SCT_LIMIT).replace(tzinfo=None)
        assert (moment < limit) == before
        assert certificate.not_valid_before_utc.replace(tzinfo=None) < limit


def test_lists_come_in_the_form_that_the_leaf_asks_for():
    authority = Authority()
    forms = {form: authority.issue(Leaf(listed=form), "mx.test")[1] for form in ("complete", "untidy", "leaf-only")}
    assert [len(listed) for listed in forms.values()] == [2, 5, 1]
    untidy = forms["untidy"]
    assert len(set(untidy)) == 4  # one twice
    assert untidy[0].issuer not in (untidy[1].subject, untidy[2].subject)
    both = authority.issue(Leaf(issuer="crossed"), "mx.test")[1]
    assert both[1].public_key() == both[2].public_key()
    assert both[1].issuer != both[2].issuer


def test_validity_is_about_now():
    authority = Authority()
    for leaf, valid in ((Leaf(), True), (Leaf(age=40), True), (Leaf(expired=True), False)):
        certificate = authority.issue(leaf, "mx.test")[0].certificate
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        assert (begin < authority.now < end - timedelta(days=7)) == valid


# --------------------------------------------------------------------------------------------------- snapshot


def test_the_snapshot_has_the_contract_s_form(world):
    with (world.snapshot / "roots.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "sha256", "subject", "not_before", "not_after", "mozilla", "chrome", "apple", "microsoft",
        "chrome_sct_not_after",
    ]  # fmt: skip
    roots = x509.load_pem_x509_certificates((world.snapshot / "roots.pem").read_bytes())
    digests = {hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest(): root for root in roots}
    assert {row["sha256"]: row["subject"] for row in rows} == {
        digest: root.subject.rfc4514_string() for digest, root in digests.items()
    }
    purposes = {purpose for row in rows for program in ("mozilla", "chrome") for purpose in row[program].split(";")}
    assert purposes == {"server", "email", ""}
    about = tomllib.loads((world.snapshot / "snapshot.toml").read_text())
    assert set(about) == {"id", "as_of", "chrome_anchors", "sources"}
    (anchor,) = x509.load_pem_x509_certificates((world.snapshot / about["chrome_anchors"]).read_bytes())
    assert anchor.issuer != anchor.subject


# ---------------------------------------------------------------------------------------------------- servers


@pytest.mark.parametrize(
    ("kind", "says", "answers"),
    [
        ("no-starttls", ["EHLO x"], ["220", "250-mx", "250 8BITMIME"]),
        ("starttls-substring", ["EHLO x"], ["220", "250-mx STARTTLS", "250-X-NOSTARTTLS", "250 XSTARTTLS"]),
        ("starttls-454", ["EHLO x", "STARTTLS"], ["220", "250-mx", "250 STARTTLS", "454"]),
        ("ehlo-refused", ["EHLO x"], ["220", "502"]),
        ("greeting-421", [], ["421"]),
        ("greeting-554", ["QUIT"], ["554", "221"]),
        ("multi-line-greeting", [], ["220-"]),
        ("not-smtp", [], ["SSH-"]),
        ("closes", [], [""]),
    ],
)
def test_what_servers_say_in_clear_text(world, kind, says, answers):
    said = lines(world, kind, *says)
    assert len(said) == len(answers)
    assert all(line.startswith(start) for line, start in zip(said, answers, strict=True)), said


@pytest.mark.parametrize(("kind", "start"), [("injected", "250 injected"), ("garbage-after-220", "this is not")])
def test_what_comes_behind_the_220(world, kind, start):
    _, address = host_of(world, kind)
    with socket.create_connection((address, world.port), timeout=10) as sock, sock.makefile("rb") as stream:
        sock.sendall(b"EHLO x\r\n")
        while not stream.readline().startswith(b"250 "):
            pass
        sock.sendall(b"STARTTLS\r\n")
        assert stream.readline().startswith(b"220 ")
        assert stream.readline().startswith(start.encode())


def test_refused_reset_and_delayed(world):
    _, address = host_of(world, "refused")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, world.port), timeout=10)
    with pytest.raises(ConnectionResetError):
        lines(world, "resets")
    began = time.monotonic()
    assert lines(world, "delayed-greeting")[0].startswith("220 ")
    assert time.monotonic() - began >= 0.3


def test_a_reset_inside_tls_is_a_reset(world):
    """With TLS apart from the socket, since Python's ssl calls a reset an end of file."""
    _, address = host_of(world, "asks-then-resets")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls().wrap_bio(incoming, outgoing)
    with socket.create_connection((address, world.port), timeout=10) as sock:
        for command, last in ((b"EHLO x\r\n", b"250 "), (b"STARTTLS\r\n", b"220 2.0.0")):
            sock.sendall(command)
            while last not in sock.recv(4096):
                pass
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(4096))
        client.write(b"EHLO x\r\n")
        sock.sendall(outgoing.read())
        with pytest.raises(ConnectionResetError):
            read_to_the_end(sock)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("kind", ["tls10", "tls11", "tls12", "tls13"])
def test_versions_are_the_only_ones(world, kind):
    wanted = BEHAVIOURS[kind]["tls_version"]
    name, address = host_of(world, kind)
    context = tls()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with smtplib.SMTP(timeout=10) as client:
        client.connect(address, world.port)
        client._host = name
        client.starttls(context=context)
        assert client.sock.version() == wanted


@pytest.mark.parametrize(
    ("kind", "version", "meets"),
    [
        ("asks", None, 250),
        ("asks-tls12", None, 250),
        ("requires-alert", None, "certificate required"),
        ("requires-alert-tls12", None, "handshake failure"),
        ("requires-421", None, 421),
        ("requires-421", ssl.TLSVersion.TLSv1_2, 421),
        ("requires-421-unasked", None, 421),
        ("requires-503", None, 503),
        ("asks-then-busy", None, 421),
        ("requires-close", None, "connection unexpectedly closed"),
    ],
)
def test_what_a_client_without_certificate_meets(world, kind, version, meets):
    where = host_of(world, kind)
    if isinstance(meets, int):
        assert session(world, *where, version)[2] == meets
        return
    with pytest.raises((ssl.SSLError, smtplib.SMTPServerDisconnected)) as caught:
        session(world, *where, version)
    assert meets in str(caught.value).lower().replace("_", " ")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command")
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("good", "No client certificate CA names sent"),
        ("asks-with-names", "Acceptable client certificate CA names\nCN = Lab private CA\n"),
        ("rsa", "Peer signature type: RSA-PSS"),
    ],
)
def test_openssl_s_client_sees_it_too(world, kind, text):
    name, address = host_of(world, kind)
    done = subprocess.run(
        ["openssl", "s_client", "-starttls", "smtp", "-connect", f"{address}:{world.port}", "-servername", name],
        input="QUIT\r\n", capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert text.replace("CN = ", "CN=") in done.stdout.replace("CN = ", "CN=")


# -------------------------------------------------------------------------------------------------------- DNS


def ask(world, name, kind, over=dns.query.udp, **options):
    query = dns.message.make_query(name, kind, **options)
    host, _, port = world.resolver.partition(":")
    return over(query, host, port=int(port), timeout=10)


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "answers"),
    [
        ("good-0.example", "MX", "NOERROR", 1),
        ("GOOD-0.Example", "MX", "NOERROR", 1),
        ("null-mx-0.example", "MX", "NOERROR", 1),
        ("null-beside-0.example", "MX", "NOERROR", 2),
        ("nodata-0.example", "MX", "NOERROR", 0),
        ("nodata-0.example", "A", "NOERROR", 0),
        ("implicit-0.example", "MX", "NOERROR", 0),
        ("implicit-0.example", "A", "NOERROR", 1),
        ("nxdomain-0.example", "MX", "NXDOMAIN", 0),
        ("missing-0.alder-mail.test", "AAAA", "NXDOMAIN", 0),
        ("servfail-0.example", "MX", "SERVFAIL", 0),
        ("several-0.cedar-mail.test", "A", "NOERROR", 3),
        ("bücher-0.example", "MX", "NOERROR", 1),  # dnspython makes the A-label
    ],
)
def test_what_the_resolver_answers(world, name, kind, rcode, answers):
    response = ask(world, name, kind)
    assert dns.rcode.to_text(response.rcode()) == rcode
    assert sum(len(rrset) for rrset in response.answer) == answers
    assert response.flags & dns.flags.RA
    assert not response.flags & dns.flags.TC


def test_an_alias_is_followed(world):
    alias, address = ask(world, "alias-0.alder-mail.test", "A").answer
    assert alias[0].target == address.name


def test_a_wide_mx_set_is_whole_over_tcp_only(world):
    short = ask(world, "wide-0.example", "MX")
    assert short.flags & dns.flags.TC
    assert not short.answer
    (whole,) = ask(world, "wide-0.example", "MX", dns.query.tcp).answer
    assert len(whole) == 24
    assert len(ask(world, "wide-0.example", "MX", dns.query.tcp).to_wire()) > 512


@pytest.mark.parametrize(("name", "signed"), [("both-0.signed.example", True), ("good-0.example", False)])
def test_authenticated_is_said_of_signed_zones_to_who_asks(world, name, signed):
    """RFC 6840 section 5.7: AD in the query, or DO, asks for it."""
    asked = ask(world, name, "MX", flags=dns.flags.RD | dns.flags.AD)
    assert bool(asked.flags & dns.flags.AD) == signed
    assert bool(ask(world, name, "MX", want_dnssec=True).flags & dns.flags.AD) == signed
    assert not ask(world, name, "MX", flags=dns.flags.RD).flags & dns.flags.AD


def test_silence_and_nonsense_get_no_answer():
    zone = Zone(Population(failing={"silent.example": "silent"}))
    assert zone.answer(dns.message.make_query("silent.example", "MX").to_wire(), udp=True) is None
    assert zone.answer(b"nonsense", udp=True) is None
    answer = zone.answer(dns.message.make_query("other.example", "MX").to_wire(), udp=True)
    assert zone.answer(answer, udp=True) is None  # or two resolvers would talk for ever


# --------------------------------------------------------------------------------------------- log and process


def test_a_visit_is_logged_as_the_server_saw_it(world):
    before = len(world.visits)
    name, address = host_of(world, "tls12")
    began = time.monotonic()
    session(world, name, address)
    while world.visits[before].ended is None:
        assert time.monotonic() < began + 10
        time.sleep(0.01)
    (visit,) = world.visits[before:]
    assert visit.address == address
    assert visit.peer.startswith("127.")
    assert began <= visit.began < visit.ended
    assert visit.commands == ["ehlo tests.example", "STARTTLS", "ehlo tests.example", "QUIT"]
    assert (visit.server_name, visit.tls_version) == (name, "TLSv1.2")
    assert visit.heard == sum(len(command) + 2 for command in visit.commands)
    assert visit.said > 100


def test_a_lab_in_a_process_of_its_own_is_the_same_lab_and_ends_with_us(tmp_path):
    with WorldProcess(60, tmp_path) as apart, World(60, tmp_path / "here") as here:
        assert list(apart.expected.domains) == list(here.expected.domains)
        assert apart.resolver != here.resolver
        host = next(host for host in apart.population.hosts if host.kind.behaviour == "good")
        der, _, code = session(apart, host.name, host.address)
        assert code == 250
        assert hashlib.sha256(der).hexdigest() in apart.expected.certificates
        assert apart.write_targets(tmp_path / "a").read_text() == here.write_targets(tmp_path / "b").read_text()
        end = time.monotonic() + 10
        while not apart.visits:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert apart.visits[0].commands[-1] == "QUIT"
        process = apart._process
    assert process.returncode == 0
    assert [json.loads(line)["address"] for line in (tmp_path / "visits.jsonl").read_text().splitlines()] == [
        host.address
    ]


def test_a_lab_that_cannot_start_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError), WorldProcess(5, tmp_path / "file"):
        pass


def test_by_hand_it_says_what_it_offers(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "lab", "--domains", "40", "--folder", tmp_path],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C" in line:
                break
        process.send_signal(2)
        assert process.wait(timeout=20) == 0
    text = "".join(said)
    assert "mxcensus scan -f" in text
    assert "--resolver 127.0.0.1:" in text
    assert "mx-0.shared-mail.test" in text


def test_nothing_is_left_when_a_lab_ends(tmp_path):
    threads = threading.active_count()
    with World(60, tmp_path) as world:
        host = next(host for host in world.population.hosts if host.kind.behaviour == "good")
        port = world.port
        with socket.create_connection((host.address, port), timeout=10) as sock:
            assert sock.recv(3) == b"220"  # and then we say nothing, as the lab ends
            world.__exit__(None, None, None)
            sock.settimeout(10)
            while sock.recv(4096):
                pass
    assert threading.active_count() == threads
    with socket.socket() as sock:
        assert sock.connect_ex((host.address, port)) != 0
