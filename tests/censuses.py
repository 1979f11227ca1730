"""Random small censuses: rows as plain dicts, and a writer that puts them into the tables."""

import hashlib
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert

from storage import schema

START = datetime(2026, 3, 1, tzinfo=UTC)

EKUS = ["server+client", "server-only", "absent", "any", "client-only", "neither", "unparsable"]
HIERARCHIES = [
    "public-chrome",
    "public-not-chrome",
    "public-purpose-unknown",
    "distrusted",
    "self-signed",
    "private",
    "unresolved",
    "undetermined",
]
REASONS = ["excluded", "special-purpose", "address-cap", "parked", "operator-stopped", "interrupted", None]
FAILURES = [("connect", "refused"), ("connect", "timeout"), ("ehlo", "not-offered"), ("starttls", "negative-reply")]
CLIENT_AUTH = ["not-requested", "requested", "required", "requested-unknown"]
PROGRAMS = [[], ["chrome"], ["chrome", "mozilla"], ["apple", "microsoft", "mozilla"]]
UNKNOWN = "f" * 64
CERTIFICATE_FACTS = (
    "sha256",
    "issuer",
    "subject",
    "not_before",
    "not_after",
    "key_type",
    "key_bits",
    "spki_sha256",
    "eku_class",
)
STANDINGS = [None, None, "none", "error", "insecure", "", ""]
VERDICTS = ["unusable", "mismatch", "match", "match"]
DAYS = [40, 47, 90, 200, 365, 398, 825, 3650]


@dataclass
class Census:
    """One scan as dicts. `hosts` has name -> operator, `addresses` name -> list."""

    domains: list[dict] = field(default_factory=list)
    hosts: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, list[str]] = field(default_factory=dict)
    endpoints: list[dict] = field(default_factory=list)
    certificates: dict[str, dict] = field(default_factory=dict)
    # of domains, "mta_sts" is the verdict, None without a record, "" with one that no pass has judged
    tlsa: dict[str, str] = field(default_factory=dict)  # host -> standing of its TLSA answer, "" to be compared
    sightings: list[dict] = field(default_factory=list)


def random_census(
    seed, *, domains=30, hosts=12, addresses=10, certificates=8, weights=True, text=None, sightings=0
):
    """A census with every kind of gap: hosts without addresses, unrouted domains, untested and failed endpoints."""
    rng = random.Random(seed)
    census = Census()
    keyed = seed % 3 > 0
    for number in range(certificates):
        _certificate(rng, census, number, text, keyed=keyed)
    pool = [f"192.0.2.{number}" for number in range(1, addresses + 1)]
    for number in range(hosts):
        host = f"mx{number}.op{rng.randrange(1 + hosts // 2)}.example"
        census.hosts[host] = host.partition(".")[2]
        census.addresses[host] = rng.sample(pool, rng.choice([0, 1, 1, 2, 3]))
        standing = rng.choice(STANDINGS)
        if standing is not None:
            census.tlsa[host] = standing
        unenrolled = rng.random() < 0.1
        for address in [] if unenrolled else census.addresses[host]:
            census.endpoints.append(_endpoint(rng, census, host, address, text))
    for number in range(domains):
        census.domains.append(_domain(rng, census, number, weights=weights))
    census.sightings = [_sighting(rng, census, number) for number in range(sightings)]
    return census


def _sighting(rng, census, number):
    """Of a session with a certificate or none, out of a log, or of a digest of which nobody has the certificate."""
    known = rng.choice([*census.certificates, *census.certificates, None, UNKNOWN])
    session = known is None or rng.random() < 0.5
    return {
        "number": number,
        "role": rng.choice(["client", "client", "server"]),
        "sha256": known,
        "count": rng.choice([1, 1, 2, 500]),
        "operator": rng.choice([None, *[f"op{n}.example" for n in range(15)]]),
        "required": rng.choice([None, False, True]),
        "tls_version": rng.choice(["TLSv1.2", "TLSv1.3", None]) if session else None,
    }


def _certificate(rng, census, number, text, *, keyed=False):
    sha = hashlib.sha256(f"certificate {number} {rng.random()}".encode()).hexdigest()
    hierarchy = rng.choice(HIERARCHIES)
    public = hierarchy.startswith("public") or hierarchy == "distrusted"
    not_before = START - timedelta(days=rng.randrange(300))
    self_signed = hierarchy == "self-signed"
    census.certificates[sha] = {
        "sha256": sha,
        "issuer": text or f"CN=issuer {rng.randrange(3)}",
        "subject": text or f"CN=host {number}",
        "not_before": not_before,
        "not_after": not_before + timedelta(days=rng.choice(DAYS), seconds=rng.choice([-1, 0, 1])),
        "key_type": rng.choice(["rsa", "ec", "ed25519", "1.2.3"]),
        "key_bits": rng.choice([2048, 256, None]),
        "spki_sha256": hashlib.sha256(f"key {rng.randrange(4) if self_signed else sha}".encode()).hexdigest(),
        "eku_class": rng.choice(EKUS),
        "hierarchy": hierarchy,
        "programs": rng.choice(PROGRAMS) if public else [],
        "ca_owner": (text or rng.choice(["Owner A", "Owner B"])) if public and rng.random() < 0.9 else None,
        "self_signed": self_signed,
        "exposure": rng.choice([None, "2026-09", "2027-03", "unknown-sunset", "not-affected"]),
        "issued_since": rng.choice([None, "earlier", "2026-03-15"]),
        "expires_since": rng.choice(["earlier", "2026-03-15", "2027-03-15"]),
        "issuer_key": None,  # as before the classification pass found it
    }
    if keyed:
        row = census.certificates[sha]
        row["issuer_key"] = row["spki_sha256"] if self_signed else f"key of a CA {number % 3}"


ASKED_NAMES = (None, "empty", "public", "own", "private")


def _endpoint(rng, census, host, address, text):
    row = {"mx_host": host, "address": address, "port": 25, "attempt": rng.choice([1, 2]), "reason": None}
    row |= {"stage": None, "failure": None, "certificate": None, "client_auth": None, "tls_version": None}
    row |= {"software": None, "dane": None}
    what = rng.random()
    if what < 0.15:
        return row | {"status": "not-tested", "reason": rng.choice(REASONS), "attempt": 0}
    if what < 0.3:
        stage, failure = rng.choice(FAILURES)
        return row | {"status": "failed", "stage": stage, "failure": failure, "client_auth": "untested"}
    ends = [("quit", None), ("quit", None), ("ehlo-after-tls", "closed"), ("handshake", "tls-alert")]
    stage, failure = rng.choice(ends)
    return row | {
        "status": "measured",
        "stage": stage,
        "failure": failure,
        "certificate": rng.choice(list(census.certificates)),
        "client_auth": (state := rng.choice(CLIENT_AUTH)),
        "tls_version": rng.choice(["TLSv1.2", "TLSv1.3"]),
        "software": text or rng.choice(["postfix", "exim", None]),
        # an endpoint's list is not shared with others here, so each may have a verdict of its own
        "asked_names": None if state in ("not-requested", "untested") else rng.choice(ASKED_NAMES),
        "dane": (census.tlsa.get(host, "insecure") or rng.choice(VERDICTS)),
    }


def _domain(rng, census, number, *, weights):
    routing = rng.choice(["mx"] * 8 + ["implicit-mx", "null-mx", "none", "error", None])
    named = sorted(rng.sample(sorted(census.hosts), rng.choice([1, 1, 2, 3])))
    if routing == "implicit-mx":
        named = named[:1]
    return {
        "domain": f"domain{number}.example",
        "weight": rng.choice([None, 0.0, 0.5, 3.0, 1000.0]) if weights else None,
        "routing": routing,
        "authenticated": rng.random() < 0.5,
        "mta_sts": rng.choice([None, None, "", "enforce", "testing-mismatch", "unavailable"]),
        "mx": named if routing in ("mx", "implicit-mx") else [],
    }


def store(connection, census):
    """Write the census into the tables as one scan; its ID."""
    scan_id = connection.execute(
        insert(schema.scan).values(
            label="random",
            state="finished",
            started_at=START,
            finished_at=START + timedelta(hours=1),
            tool_version="0.0",
            rules_version="1",
            trust_id="test",
            seed=1,
            settings={"trust": {"as_of": "2026-03-01", "not_measurable": ["public-other-purpose"]}},
        )
    ).inserted_primary_key[0]
    put = _Rows(connection, scan_id)
    for host, operator in census.hosts.items():
        put(schema.mx_host, mx_host=host, operator=operator, authenticated=False)
        if (standing := census.tlsa.get(host)) is not None:
            put(schema.tlsa, mx_host=host, base=host, authenticated=True, standing=standing or None, records=[])
        for position, address in enumerate(census.addresses[host]):
            put(schema.mx_address, address=address, mx_host=host, position=position)
    _store_domains(put, census)
    for endpoint in census.endpoints:
        _store_endpoint(put, endpoint)
    for row in census.sightings:
        put(schema.sighting, **row)
    used = {endpoint["certificate"] for endpoint in census.endpoints} | {row["sha256"] for row in census.sightings}
    for sha, row in census.certificates.items():
        _store_certificate(connection, row)
        if sha in used:
            put(schema.scan_certificate, sha256=sha, role="server")
            put(schema.classification, **_classified(row))
    return scan_id


class _Rows:
    def __init__(self, connection, scan_id):
        self.connection, self.scan_id = connection, scan_id

    def __call__(self, table, **values):
        self.connection.execute(insert(table).values(scan_id=self.scan_id, **values))


def _store_domains(put, census):
    sets = {}
    for row in census.domains:
        hosts = tuple(row["mx"])
        if hosts and hosts not in sets:
            sets[hosts] = hashlib.sha256(" ".join(hosts).encode()).hexdigest()[:32]
            for position, host in enumerate(hosts):
                put(
                    schema.mx_set_host,
                    mx_set=sets[hosts],
                    position=position,
                    preference=10,
                    mx_host=host,
                    notes=[],
                )
        put(
            schema.domain,
            domain=row["domain"],
            weight=row["weight"],
            order_key=0,
            routing=row["routing"],
            authenticated=row.get("authenticated", False),
            mx_set=sets.get(hosts),
        )
        sts = row.get("mta_sts")
        if sts is not None:
            put(schema.mta_sts, domain=row["domain"], record="valid")
        if sts:
            put(schema.sts_verdict, domain=row["domain"], mta_sts=sts, unmatched=[])


def _store_endpoint(put, row):
    place = {name: row[name] for name in ("mx_host", "address", "port")}
    put(schema.endpoint, **place, order_key=0, reason=row["reason"], last_attempt=row["attempt"])
    for attempt in range(1, row["attempt"] + 1):
        last = attempt == row["attempt"]
        facts = {"status": "failed", "stage": "greeting", "failure": "negative-reply", "client_auth": "untested"}
        if last:
            names = ("status", "stage", "failure", "client_auth", "certificate", "tls_version", "software")
            facts = {name: row[name] for name in names}
            listed = f"list of {row['mx_host']} {row['address']}"
            facts["list_sha256"] = listed if row["certificate"] else None
            if asked := row.get("asked_names"):
                facts["ca_names_sha256"] = "names"
                put(schema.ca_names_verdict, ca_names_sha256="names", list_sha256=listed, names_class=asked)
            if row.get("dane") in VERDICTS:
                put(schema.dane_verdict, mx_host=row["mx_host"], list_sha256=listed, dane=row["dane"])
        put(
            schema.observation,
            **place,
            **facts,
            order_key=0,
            attempt=attempt,
            last=last,
            detail="",
            ehlo_keywords=[],
            injected_plaintext=False,
            started_at=START,
            duration_ms=5,
        )


def _store_certificate(connection, row):
    names = [
        "sha256",
        "issuer",
        "subject",
        "not_before",
        "not_after",
        "key_type",
        "key_bits",
        "spki_sha256",
        "eku_class",
    ]
    facts = {name: row[name] for name in names}
    empty = {"dns_names": [], "policy_oids": [], "sct_timestamps": [], "is_ca": False}
    connection.execute(insert(schema.certificate).values(**facts, **empty, der=b"0", readable=True))


def _classified(row):
    return {
        "sha256": row["sha256"],
        "eku_class": row["eku_class"],
        "effective_eku_class": row["eku_class"],
        "hierarchy": row["hierarchy"],
        "programs": "+".join(row["programs"]),
        "programs_unknown": "",
        "chrome_estimated": False,
        "self_signed": row["self_signed"],
        "ca_owner": row["ca_owner"],
        "exposure": row["exposure"],
        "issued_since": row["issued_since"],
        "expires_since": row["expires_since"],
        "issuer_key": row["issuer_key"],
    }
