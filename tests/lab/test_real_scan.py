"""The whole program on real input: `mxcensus scan` over real DNS and real mail servers into real PostgreSQL."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass

import pki
import pytest
import world

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-real")]

EHLO_NAME = "census.example.net"
PROGRAMS = ["apple", "chrome", "microsoft", "mozilla"]


@dataclass(frozen=True, slots=True)
class Scanned:
    """A finished scan: its summary, its rows, and what each server logged meanwhile."""

    summary: dict
    domains: dict
    endpoints: dict
    certificates: dict
    report: dict
    visits: dict

    def figure(self, name, unit):
        found = [f for f in self.report["figures"] if (f["id"], f["unit"]) == (name, unit)]
        assert len(found) == 1, (name, unit)
        return found[0]

    def counts(self, name, unit):
        """Key fields (in the figure's order) -> count, rows of nothing left out."""
        figure = self.figure(name, unit)
        rows = ((tuple(row["key"][key] for key in figure["keys"]), row["count"]) for row in figure["rows"])
        return {key: count for key, count in rows if count}


def mxcensus(folder, *arguments):
    """Run the program as its user does; its settings folder is empty, so that nobody's own settings count."""
    environment = os.environ | {"XDG_CONFIG_HOME": str(folder / "config"), "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mxcensus", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def exported(folder, url, kind):
    path = folder / f"{kind}.jsonl"
    mxcensus(folder, "export", "--db", url, "--what", kind, "--format", "jsonl", "-o", path)
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def scanned(servers, names, domain_table, postgresql_url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    trust = folder / "trust"
    trust.mkdir()
    pki.write_snapshot(trust, servers.public.root)
    (folder / "domains.txt").write_text("".join(f"{name}\n" for name in domain_table))
    before = {label: len(servers.visits(label)) for label in servers.rows}
    address, port = names.resolver
    output = mxcensus(
        folder,
        *("scan", "-f", "domains.txt", "--db", postgresql_url, "--trust", trust, "--label", "real lab"),
        *("--resolver", f"{address}:{port}", "--port", servers.port, "--allow-special-purpose"),
        *("--ehlo-name", EHLO_NAME, "--contact", "lab@example.net", "--timeout", 20),
        *("--interval", 0, "--per-operator", 100, "--rate", 500, "--json"),
    )
    report = (
        mxcensus(folder, "report", "--db", postgresql_url, "--format", "json", "-o", "report.json")
        or (folder / "report.json").read_text()
    )
    return Scanned(
        summary=json.loads(output),
        domains={row["domain"]: row for row in exported(folder, postgresql_url, "domains")},
        endpoints={(row["mx_host"], row["address"]): row for row in exported(folder, postgresql_url, "endpoints")},
        certificates={row["sha256"]: row for row in exported(folder, postgresql_url, "certificates")},
        report=json.loads(report),
        visits={label: servers.visits(label, before[label] + 1)[before[label] :] for label in servers.rows},
    )


def sha256(der):
    return hashlib.sha256(der).hexdigest()


def names_by_address(servers, domain_table):
    """Address -> the MX host names that lead there, of those addresses where a server listens."""
    listening = {listener.name: listener.address for listener in servers.listeners.values()}
    ordinary, plain = servers.address("postfix-default"), servers.address("postfix-plain")
    listening |= {"implicit.lab.test": ordinary, "alias-host.alias-mx.lab.test": ordinary}
    listening |= {"unsigned.plain.test": plain}
    found = defaultdict(set)
    for domain in domain_table.values():
        for _, host in domain.mx:
            if host in listening:
                found[listening[host]].add(host)
    return found


def test_each_name_of_each_address_is_one_endpoint(scanned, servers, domain_table):
    expected = {
        (host, address) for address, hosts in names_by_address(servers, domain_table).items() for host in hosts
    }
    assert set(scanned.endpoints) == expected | {("gone.closed.lab.test", "127.0.0.77")}
    closed = scanned.endpoints["gone.closed.lab.test", "127.0.0.77"]
    assert (closed["status"], closed["stage"], closed["failure"]) == ("failed", "connect", "refused")


def test_every_server_logged_one_connection_per_name(scanned, servers, domain_table):
    hosts = names_by_address(servers, domain_table)
    for label, visits in scanned.visits.items():
        row = servers.rows[label]
        assert len(visits) == len(hosts[servers.address(label)]), label
        assert {name for visit in visits for name in visit.ehlo_names} == {EHLO_NAME}, label
        assert row.client_auth == "required" or all(visit.quit for visit in visits), label


def test_endpoints_are_the_configured_truth(scanned, servers):
    for label, row in servers.rows.items():
        found = scanned.endpoints[row.host, servers.address(label)]
        assert found["client_auth"] == row.client_auth, label
        assert found["starttls_offered"] is row.tls, label
        assert found["software"].lower() == row.program, label
        assert found["port"] == servers.port
        if not row.tls:
            assert (found["status"], found["stage"], found["failure"]) == ("failed", "ehlo", "not-offered"), label
            continue
        presented = [sha256(der) for der in servers.certificate_list(label)]
        assert found["status"] == "measured", label
        assert found["certificate_list"] == presented, label
        assert found["certificate"] == presented[0], label
        assert found["tls_version"] == row.tls_version, label
        assert found["eku_class"] == row.eku, label
        assert found["hierarchy"] == row.hierarchy, label
        assert found["programs"] == (PROGRAMS if row.issuer == "public" else []), label
        assert found["chain_complete"] is (row.issuer == "public" and not row.options.get("leaf_only")), label
        assert found["name_match"] is True, label
        assert found["expired"] is False, label
        asked = row.client_auth != "not-requested"
        assert (found["client_ca_names"] or []) == (["CN=Private Root"] if asked else []), label


def test_dane_is_what_the_signed_zone_says(scanned, servers):
    for label, row in servers.rows.items():
        if not row.tls:
            continue
        found = scanned.endpoints[row.host, servers.address(label)]
        tlsa = world.TLSA.get(label)
        assert found["dane"] == (tlsa.verdict if tlsa else "none"), label
        matched = tlsa is not None and tlsa.verdict == "match"
        assert found["dane_record"] == (tlsa.parameters if matched else None), label


def test_tlsa_records_of_an_unsigned_zone_count_for_nothing(scanned):
    unsigned = scanned.domains["plain.test"]["mx"][0]
    assert unsigned["tlsa"] is None or not unsigned["tlsa"]["records"]


def test_openssl_judges_dane_alike(servers, second_opinion):
    for label, tlsa in world.TLSA.items():
        host = servers.rows[label].host
        options = ("-dane_tlsa_domain", host, "-dane_tlsa_rrdata", f"{tlsa.parameters} {tlsa.data(servers)}")
        opinion = second_opinion(servers.address(label), servers.port, host, "second-opinion.test", *options)
        assert ("Verification: OK" in opinion.text) is (tlsa.verdict == "match"), (label, opinion.text[-1500:])


def test_another_name_of_a_server_does_not_match_its_certificate(scanned, servers):
    address = servers.address("postfix-default")
    for host in ("implicit.lab.test", "alias-host.alias-mx.lab.test"):
        assert scanned.endpoints[host, address]["name_match"] is False
        assert scanned.endpoints[host, address]["status"] == "measured"


def test_openssl_shows_the_same_of_every_host(scanned, servers, second_opinion):
    for label, row in servers.rows.items():
        opinion = second_opinion(servers.address(label), servers.port, row.host)
        found = scanned.endpoints[row.host, servers.address(label)]
        assert (found["certificate_list"] or []) == [sha256(der) for der in opinion.certificate_list], label
        assert found["tls_version"] == opinion.tls_version, label
        if opinion.tls_version == "TLSv1.3":
            assert found["cipher_suite"] == opinion.cipher_suite, label


def test_domains_are_the_configured_truth(scanned, servers, domain_table):
    assert set(scanned.domains) == set(domain_table)
    for name, domain in domain_table.items():
        found = scanned.domains[name]
        assert (found["routing"], found["rcode"]) == (domain.routing, domain.rcode), name
        assert found["authenticated"] is domain.authenticated, name
        assert [mx["host"] for mx in found["mx"]] == [host for _, host in domain.mx], name
        if domain.routing == "mx":
            assert [mx["preference"] for mx in found["mx"]] == [preference for preference, _ in domain.mx], name
        assert sorted({note for mx in found["mx"] for note in mx["notes"]}) == list(domain.notes), name
    two = scanned.domains["two.lab.test"]["mx"]
    assert [mx["addresses"] for mx in two] == [
        [servers.address("exim-default")],
        [servers.address("postfix-default")],
    ]


def test_every_certificate_is_stored_once_with_its_der(scanned, servers):
    presented = {sha256(der): der for label in servers.rows for der in servers.certificate_list(label)}
    assert {digest: base64.b64decode(row["der"]) for digest, row in scanned.certificates.items()} == presented
    issuing = scanned.certificates[sha256(pki.der(servers.public.issuing))]
    assert (issuing["role"], issuing["subject"], issuing["hierarchy"]) == (
        "ca",
        "CN=Public Issuing",
        "public-chrome",
    )
    for row in servers.rows.values():
        if row.tls:
            found = scanned.certificates[sha256(servers.certificate_list(row.label)[0])]
            assert (found["role"], found["key_type"]) == ("server", row.key), row.label
            assert found["dns_names"] == [row.host], row.label


def test_the_summary_counts_what_is_stored(scanned, domain_table):
    statuses = Counter(row["status"] for row in scanned.endpoints.values())
    summary = scanned.summary
    assert summary["domains"] == len(domain_table)
    assert summary["endpoints"] == len(scanned.endpoints)
    assert (summary["measured"], summary["failed"], summary["not_tested"]) == (
        statuses["measured"],
        statuses["failed"],
        0,
    )
    # As everywhere in figures, the certificates that count are the end entities'.
    roles = Counter(row["role"] for row in scanned.certificates.values())
    assert (summary["certificates"], roles["ca"]) == (roles["server"], 3)


def test_figures_count_the_configured_truth(scanned, servers, domain_table):
    # Two names of one server are two endpoints; postfix-default has three.
    measured = [row for row in servers.rows.values() if row.tls]
    measured += [servers.rows["postfix-default"]] * 2
    assert scanned.counts("client_auth", "endpoint") == Counter((row.client_auth,) for row in measured)
    assert scanned.counts("eku", "endpoint") == Counter((row.eku,) for row in measured)
    assert scanned.counts("hierarchy", "endpoint") == Counter((row.hierarchy,) for row in measured)
    distinct = Counter((row.hierarchy,) for row in servers.rows.values() if row.tls)
    assert scanned.counts("hierarchy", "certificate") == distinct
    assert scanned.counts("routing", "domain") == Counter((d.routing,) for d in domain_table.values())


def test_rows_sum_to_the_units_measured(scanned):
    assert {figure["id"] for figure in scanned.report["figures"]} >= {"eku", "hierarchy", "client_auth", "outcome"}
    for figure in scanned.report["figures"]:
        counted = sum(row["count"] for row in figure["rows"])
        assert counted == figure["coverage"]["measured"], (figure["id"], figure["unit"])
