"""Real Postfix and Exim that present a client certificate deliver to `mxcensus listen`: it is in the report."""

import json
import shutil
import smtplib
import subprocess

import pytest
from conftest import need
from test_lab_scan import mxcensus
from test_listen import authority, listening, pem  # noqa: F401  # a fixture is used by its name

from lab.mta import exim, postfix
from lab.mta.listener import Listener
from lab.mta.process import directory, free_port, loopback_prefix, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-real")]

SETTINGS = """
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
relayhost = [127.0.0.1]:{port}
smtp_tls_security_level = encrypt
smtp_tls_chain_files = {file}
disable_dns_lookups = yes
smtp_host_lookup = native
"""


@pytest.mark.parametrize("eku", ["server+client", "server-only"])
def test_what_postfix_presents_as_a_client_is_counted(tmp_path, authority, eku):  # noqa: F811  # the fixture
    if reason := postfix.missing():
        need(reason)
    address = f"{loopback_prefix()}.1"
    relay = Listener("relay.example.org", address, free_port(address))
    with directory("client") as folder, listening(tmp_path, "--sessions", "sessions.jsonl") as (port, tally):
        certificates, _, key = pem(folder, authority, eku).read_text().partition("-----BEGIN PRIVATE KEY")
        (file := folder / "chain.pem").write_text(f"-----BEGIN PRIVATE KEY{key}{certificates}")  # Postfix's order
        with postfix.running([relay], SETTINGS.format(port=port, file=file)) as running:
            with smtplib.SMTP(address, relay.port, timeout=20) as client:
                client.sendmail("one@example.org", ["two@example.com"], "Subject: a test\r\n\r\nText\r\n")
            wait_until(lambda: "status=deferred" in running.log.read_text(), "the refusal", 30)
            assert "450 4.3.2" in running.log.read_text()
    assert (tally["sessions"], tally["with_certificate"]) == (1, 1)
    session = json.loads((tmp_path / "sessions.jsonl").read_text())
    assert (session["ehlo_name"], session["tls_version"]) == ("relay.example.org", "TLSv1.3")
    assert in_report(tmp_path) == {eku: 1}


def in_report(folder):
    """EKU class -> certificates presented by clients."""
    report = json.loads(mxcensus(folder, "report", "--format", "json").stdout)
    (figure,) = [
        one
        for one in report["figures"]
        if (one["id"], one["role"], one["unit"]) == ("eku", "client", "certificate")
    ]
    return {row["key"]["eku"]: row["count"] for row in figure["rows"]}


EXIM = """\
primary_hostname = relay.example.org
spool_directory = {root}/spool
log_file_path = {root}/log/%slog
keep_environment =
exim_path = {exim}

begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1::{port}
  self = send
  transport = out

begin transports
out:
  driver = smtp
  hosts_require_tls = *
  tls_tempfail_tryclear = false
  tls_certificate = {root}/client.pem
  tls_privatekey = {root}/client.pem
"""


@pytest.mark.parametrize("eku", ["client-only", "server+client"])
def test_what_exim_presents_as_a_client_is_counted(tmp_path, authority, eku):  # noqa: F811  # the fixture
    if reason := exim.missing():
        need(reason)
    with directory("exim-client") as root, listening(tmp_path) as (port, tally):
        for path in (root / "spool", root / "log"):
            path.mkdir()
            shutil.chown(path, exim.USER, exim.USER)
        (root / "client.pem").write_bytes(pem(tmp_path, authority, eku).read_bytes())
        shutil.chown(root / "client.pem", exim.USER)
        (config := root / "exim.conf").write_text(EXIM.format(root=root, port=port, exim=exim.executable()))
        config.chmod(0o644)
        message = "From: one@example.org\nTo: two@example.com\nSubject: a test\n\nText\n"
        command = [exim.executable(), "-C", str(config), "-odf", "-f", "one@example.org", "two@example.com"]
        subprocess.run(command, input=message, text=True, check=False, timeout=60, capture_output=True)
        log = (root / "log" / "mainlog").read_text()
        assert "450 4.3.2" in log, log
    assert tally["sessions"] == tally["with_certificate"] >= 1  # Exim comes again after a 450
    assert in_report(tmp_path) == {eku: 1}
