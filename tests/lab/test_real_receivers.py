"""The recipe of docs/client-certificates.md, as it is written there, on what real Exim and Postfix leave behind."""

import contextlib
import hashlib
import json
import re
import shutil
import smtplib
import ssl
import subprocess
from pathlib import Path

import pytest
from conftest import need
from test_lab_scan import mxcensus
from test_listen import authority, pem  # noqa: F401  # a fixture is used by its name

from lab.mta import exim, postfix
from lab.mta.listener import Asks, Credential, Listener
from lab.mta.process import directory, free_port, loopback_prefix, process, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-real")]

RECIPE = (Path(__file__).parents[2] / "docs" / "client-certificates.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", RECIPE, re.MULTILINE | re.DOTALL)
EKU = "server+client"


def block(*words):
    """The one block of the recipe with these words."""
    (found,) = [text for text in BLOCKS if all(word in text for word in words)]
    return found


EXIM = """\
primary_hostname = in.example.org
spool_directory = {root}/spool
log_file_path = {root}/log/%slog
pid_file_path = {root}/exim.pid
keep_environment =
local_interfaces = {address}
daemon_smtp_ports = {port}
tls_advertise_hosts = *
tls_certificate = {root}/server.pem
tls_privatekey = {root}/server.pem
tls_verify_certificates = {root}/ca.pem
queue_only = true
acl_smtp_rcpt = accept
{recipe}
begin routers
begin transports
"""


@contextlib.contextmanager
def exim_receiver(authority):  # noqa: F811  # the fixture
    """An Exim configured by the recipe: its address, and where it keeps spool and log."""
    if reason := exim.missing():
        need(reason)
    address = f"{loopback_prefix()}.2"
    port = free_port(address)
    with directory("exim") as root:
        for path in (root / "spool", root / "log"):
            path.mkdir()
            shutil.chown(path, exim.USER, exim.USER)
        (root / "server.pem").write_bytes(pem(root, authority, "absent").read_bytes())
        shutil.chown(root / "server.pem", exim.USER)
        certificates = pem(root, authority, "any").read_text().partition("-----BEGIN PRIVATE")[0]
        (root / "ca.pem").write_text(certificates)
        config = root / "exim.conf"
        config.write_text(EXIM.format(root=root, address=address, port=port, recipe=block("tls_try_verify_hosts")))
        config.chmod(0o644)
        main = root / "log" / "mainlog"
        command = (exim.executable(), "-C", str(config), "-bdf")
        with process("exim", command, root / "output", lambda: main.exists() and b"exim " in main.read_bytes()):
            yield address, port, root / "spool", main


@contextlib.contextmanager
def postfix_receiver(authority):  # noqa: F811  # the fixture
    """A Postfix configured by the recipe."""
    if reason := postfix.missing():
        need(reason)
    address = f"{loopback_prefix()}.3"
    with directory("postfix-key") as root:
        chain, _, key = pem(root, authority, "absent").read_text().partition("-----BEGIN PRIVATE KEY")
        (root / "chain").write_text(chain)
        (root / "key").write_text(f"-----BEGIN PRIVATE KEY{key}")
        own = Credential(root / "chain", root / "key", ())
        receiver = Listener("in.example.org", address, free_port(address), (own,), Asks.ASKS)
        settings = block("smtpd_tls_loglevel").replace("smtpd_tls_ask_ccert = yes\n", "")  # the listener's own
        with postfix.running([receiver], settings) as running:
            yield address, receiver.port, running.log


def present(address, port, file, *, deliver):
    """Come as a client that has a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(file)
    with smtplib.SMTP(address, port, local_hostname="out.example.org", timeout=20) as client:
        client.starttls(context=context)
        client.ehlo()
        if deliver:
            client.sendmail("one@example.org", ["two@example.com"], "Subject: a test\r\n\r\nText\r\n")


def digest_of(file):
    first = file.read_text().partition("-----END CERTIFICATE-----")[0]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(f"{first}-----END CERTIFICATE-----\n")).hexdigest()


def run(text, folder, **variables):
    subprocess.run(
        ["sh", "-ec", text], cwd=folder, env={"PATH": "/usr/bin:/bin", **variables}, check=True, timeout=30
    )


def client_figure(folder, unit, *arguments):
    report = json.loads(mxcensus(folder, "report", "--format", "json", *arguments).stdout)
    named = {(one["id"], one["role"], one["unit"]): one for one in report["figures"]}
    return {row["key"]["eku"]: row["count"] for row in named["eku", "client", unit]["rows"]}


def test_exim_s_spool_and_log(tmp_path, authority):  # noqa: F811  # the fixture
    file = pem(tmp_path, authority, EKU)
    with exim_receiver(authority) as (address, port, spool, log):
        for _ in range(2):
            present(address, port, file, deliver=True)
        wait_until(lambda: log.read_text().count("client-certificate") == 2, "the log", 10)
        run(block("tls_peercert //p"), tmp_path, spool=str(spool))
        run(block("client-certificate sha256=\\("), tmp_path, log=str(log))
    mxcensus(tmp_path, *block("import --role client").split()[1:])
    assert client_figure(tmp_path, "certificate") == {EKU: 1}
    assert client_figure(tmp_path, "weight") == {EKU: 2.0}
    line = json.loads((tmp_path / "exim-clients.jsonl").read_text())
    assert (line["sha256"].lower(), line["count"]) == (digest_of(file), 2)


def test_postfix_s_log_joins_what_a_scan_has_stored(tmp_path, authority):  # noqa: F811  # the fixture
    file = pem(tmp_path, authority, EKU)
    with postfix_receiver(authority) as (address, port, log):
        for _ in range(3):
            present(address, port, file, deliver=False)
        wait_until(lambda: log.read_text().count("disconnect from") == 3, "the log", 10)
        run(block("subject_CN=.* fingerprint"), tmp_path, log=str(log))
    mxcensus(tmp_path, "import", file)  # as a scan would have met it: a server's
    mxcensus(tmp_path, *block("import --db").split()[1:])
    assert client_figure(tmp_path, "weight", "--scan", 1, "--clients", 2) == {EKU: 3.0}
    report = json.loads(mxcensus(tmp_path, "report", "--format", "json", "--scan", 1, "--clients", 2).stdout)
    (need_of,) = [one for one in report["figures"] if one["id"] == "client_need"]
    assert [(tuple(row["key"].values()), row["count"]) for row in need_of["rows"]] == [
        (("yes", "yes", "unknown"), 1)
    ]
