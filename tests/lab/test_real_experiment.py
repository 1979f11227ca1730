"""`mxcensus experiment` against real Postfix and Exim in every mode: their own verdicts, a connection a variant."""

import pki
import pytest
import world
from test_experiment import experiment_on

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-real")]

EKU = {"server-only": pki.EKU["server-only"], "client-only": pki.EKU["client-only"],
       "both": pki.EKU["server+client"], "no-eku": None}  # fmt: skip
LABELS = ("none", *EKU)

ACCEPTED = ("accepted", None, None)
POSTFIX_REFUSES = ("reply", None, 421)
"""Whatever the TLS version: the handshake is completed, then 421 4.7.1."""


def truth(row, label):
    """What each software does with each certificate, by how it is built: OpenSSL looks at EKU, GnuTLS does not."""
    if row.client_auth != "required":
        return ACCEPTED
    if row.program == "postfix":
        return ACCEPTED if label in {"client-only", "both", "no-eku"} else POSTFIX_REFUSES
    if label != "none":
        return ACCEPTED
    return ("alert", 50 if row.tls_version == "TLSv1.2" else 116, None)


@pytest.fixture(scope="module")
def certificates(servers, tmp_path_factory):
    """Client certificates of the CA that every server of the world verifies against."""
    folder = tmp_path_factory.mktemp("clients")
    for label, eku in EKU.items():
        issued = servers.private.issue(f"{label}.client.example", eku)
        (folder / f"{label}.pem").write_bytes(issued.chain.read_bytes() + issued.key.read_bytes())
    return folder


def test_every_mode_and_variant_is_what_was_configured(servers, certificates, tmp_path):
    before = {row.label: len(servers.visits(row.label)) for row in world.MODES}
    found = experiment_on(
        tmp_path,
        *(servers.address(row.label) for row in world.MODES),
        *(word for label in EKU for word in ("--client-cert", f"{label}={certificates / label}.pem")),
        "--port", servers.port, "--ehlo-name", "census.example.net", "--contact", "the tests",
    )  # fmt: skip
    rows = {(row["address"], row["variant"]): row for row in found["trials"]}
    assert len(rows) == len(found["trials"]) == len(world.MODES) * len(LABELS)
    for row in world.MODES:
        for label in LABELS:
            seen = rows[servers.address(row.label), label]
            assert (seen["outcome"], seen["tls_alert"], seen["reply_code"]) == truth(row, label), (row.label, label)
            assert seen["presented"] == (label != "none" and row.client_auth != "not-requested"), (row.label, label)
        assert rows[servers.address(row.label), "none"]["client_auth"] == row.client_auth
        visits = servers.visits(row.label, before[row.label] + len(LABELS))[before[row.label] :]
        assert len(visits) == len(LABELS), row.label
        assert {name for visit in visits for name in visit.ehlo_names} == {"census.example.net"}
