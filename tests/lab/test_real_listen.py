"""Real Postfix, told to present a client certificate, delivers to `mxcensus listen`: what it presents comes out."""

import json
import smtplib

import pytest
from conftest import need
from test_lab_scan import mxcensus
from test_listen import authority, listening, pem  # noqa: F401  # a fixture is used by its name

from lab.mta import postfix
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
    mxcensus(tmp_path, "export", "--what", "certificates", "--format", "jsonl", "-o", "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["eku_class"] for row in rows if row["role"] == "client"] == [eku]
