"""Writes a synthetic census of any size into a database: rows only, no traffic.

    python benchmarks/census_rows.py sqlite:///big.db --domains 1000000 --endpoints 200000

Shapes are those of mail routing in the wild: a few providers serve half of the domains, the rest have hosts of
their own; most hosts have one address; one certificate serves one to a few hosts. Hosts follow one of some hundred
common setups, a tenth of them with something of their own; `--independent` draws every fact by itself, which is the
worst case for counting.
"""

import argparse
import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, create_engine, insert

from storage import schema

START = datetime(2026, 3, 1, tzinfo=UTC)
BATCH = 5_000
PROVIDERS = 2_000

EKUS = ("server-only", "server+client", "absent", "any", "neither")
HIERARCHIES = ("public-chrome", "self-signed", "private", "undetermined", "public-not-chrome", "unresolved")
SOFTWARE = ("postfix", "exim", None, "exchange", "sendmail", "opensmtpd", "haraka")
OWNERS = tuple(f"CA owner {number}" for number in range(60))
OUTCOMES = (("quit", None),) * 9 + (("ehlo-after-tls", "closed"),)
FAILURES = (("connect", "timeout"), ("connect", "refused"), ("ehlo", "not-offered"), ("greeting", "negative-reply"))
CLIENT_AUTH = ("not-requested",) * 12 + ("requested",) * 6 + ("required", "requested-unknown")
VALID = (90, 90, 90, 199, 365, 398, 3650)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--domains", type=int, default=1_000_000)
    parser.add_argument("--endpoints", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--independent", action="store_true")
    arguments = parser.parse_args()
    engine = create_engine(arguments.url)
    schema.metadata.create_all(engine)
    with engine.begin() as connection:
        scan_id = write_census(
            connection,
            arguments.domains,
            arguments.endpoints,
            arguments.seed,
            independent=arguments.independent,
        )
    print(f"scan {scan_id}: {arguments.domains} domains, {arguments.endpoints} endpoints")


def write_census(
    connection: Connection, domains: int, endpoints: int, seed: int, *, independent: bool = False
) -> int:
    """Write one scan and return its ID."""
    rng = random.Random(seed)
    values = {
        "label": "synthetic", "state": "finished", "started_at": START, "finished_at": START, "tool_version": "0",
        "rules_version": "0", "trust_id": "synthetic", "seed": seed, "settings": {},
    }  # fmt: skip
    key = connection.execute(insert(schema.scan).values(values)).inserted_primary_key
    scan_id = int(key[0])
    hosts = endpoints * 9 // 10
    addresses = [f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in range(endpoints * 19 // 20)]
    certificates = [_digest("certificate", seed, number) for number in range(endpoints * 6 // 10)]
    put = _Writer(connection, scan_id)
    setups = _Setups(rng, independent=independent)
    _write_certificates(put, setups, certificates)
    _write_hosts(put, setups, (hosts, endpoints), addresses, certificates)
    _write_domains(put, rng, domains, hosts)
    put.finish()
    return scan_id


class _Setups:
    """Draws what belongs together: a certificate's facts, and a server's."""

    def __init__(self, rng: random.Random, *, independent: bool) -> None:
        self.rng, self._independent = rng, independent
        self._common = [self._draw() for _ in range(300)]
        self._weights = [1 / (rank + 2) for rank in range(300)]

    def __call__(self) -> dict[str, Any]:
        if self._independent or self.rng.random() < 0.1:
            return self._draw()
        return self.rng.choices(self._common, self._weights)[0]

    def _draw(self) -> dict[str, Any]:
        rng = self.rng
        hierarchy = rng.choices(HIERARCHIES, (60, 18, 10, 6, 3, 3))[0]
        public = hierarchy.startswith("public")
        key_type, key_bits = rng.choice((("rsa", 2048), ("rsa", 4096), ("ec", 256), ("ec", 384)))
        return {
            "eku": rng.choices(EKUS, (55, 35, 6, 2, 2))[0],
            "hierarchy": hierarchy,
            "programs": rng.choice(("chrome+mozilla", "apple+chrome+microsoft+mozilla")) if public else "",
            "ca_owner": rng.choice(OWNERS) if public else None,
            "key_type": key_type,
            "key_bits": key_bits,
            "days": rng.choice(VALID),
            "client_auth": rng.choice(CLIENT_AUTH),
            "software": rng.choice(SOFTWARE),
            "tls_version": rng.choice(("TLSv1.3", "TLSv1.3", "TLSv1.2")),
        }


class _Writer:
    """Batched inserts, a table at a time."""

    def __init__(self, connection: Connection, scan_id: int) -> None:
        self._connection, self._scan_id = connection, scan_id
        self._waiting: dict[Table, list[dict[str, object]]] = {}

    def __call__(self, table: Table, **values: object) -> None:
        rows = self._waiting.setdefault(table, [])
        if "scan_id" in table.c:
            values["scan_id"] = self._scan_id
        rows.append(values)
        if len(rows) == BATCH:
            self._connection.execute(insert(table), rows)
            rows.clear()

    def finish(self) -> None:
        for table, rows in self._waiting.items():
            if rows:
                self._connection.execute(insert(table), rows)
        self._waiting.clear()


def _write_certificates(put: _Writer, setups: _Setups, digests: list[str]) -> None:
    rng = setups.rng
    for number, digest in enumerate(digests):
        setup = setups()
        begin = START - timedelta(days=rng.randrange(300))
        put(
            schema.certificate, sha256=digest, der=rng.randbytes(1_400), readable=True, subject=f"CN=mx{number}",
            issuer=f"CN=issuer {number % 5_000}", serial="01", not_before=begin,
            not_after=begin + timedelta(days=setup["days"]), key_type=setup["key_type"],
            key_bits=setup["key_bits"], spki_sha256=digest[::-1], signature_algorithm="sha256WithRSAEncryption",
            dns_names=[f"mx{number}"], eku_oids=[], eku_class=setup["eku"], is_ca=False, policy_oids=[],
            sct_timestamps=[], parse_error=None,
        )  # fmt: skip
        put(schema.scan_certificate, sha256=digest, role="server")
        put(
            schema.certificate_list,
            list_sha256=_digest("list", digest),
            certificates=[digest, _digest("issuer", number % 5_000)],
        )
        put(schema.list_classification, list_sha256=_digest("list", digest), chain_complete=True)
        put(
            schema.classification, sha256=digest, eku_class=setup["eku"], effective_eku_class=setup["eku"],
            hierarchy=setup["hierarchy"], programs=setup["programs"], programs_unknown="", chrome_estimated=False,
            self_signed=setup["hierarchy"] == "self-signed", ca_owner=setup["ca_owner"],
        )  # fmt: skip


def _write_hosts(
    put: _Writer, setups: _Setups, sizes: tuple[int, int], addresses: list[str], certificates: list[str]
) -> None:
    hosts, endpoints = sizes
    rng = setups.rng
    extra = endpoints - hosts
    for number in range(hosts):
        host = _host(number)
        operator = f"provider{number % 300}.example" if number < PROVIDERS else f"own{number}.example"
        setup = setups()
        put(schema.mx_host, mx_host=host, operator=operator, authenticated=False)
        for position in range(2 if number < extra else 1):
            at = number + position * hosts
            address = addresses[at % len(addresses)]
            put(schema.mx_address, mx_host=host, address=address, position=position)
            place = {"order_key": rng.getrandbits(62), "mx_host": host, "address": address, "port": 25}
            chance = rng.random()
            tested = chance < 0.97
            put(
                schema.endpoint, **place, reason=None if tested else "excluded",
                last_attempt=int(tested),
            )  # fmt: skip
            if tested:
                measured = chance < 0.82
                presented = certificates[number % len(certificates)]
                stage, failure = rng.choice(OUTCOMES if measured else FAILURES)
                put(
                    schema.observation, **place, attempt=1, last=True, stage=stage, failure=failure,
                    status="measured" if measured else "failed", detail="", greeting="220 mx ESMTP",
                    ehlo_keywords=["STARTTLS", "SIZE 1"], injected_plaintext=False, started_at=START,
                    duration_ms=200, client_auth=setup["client_auth"] if measured else "untested",
                    tls_version=setup["tls_version"] if measured else None,
                    software=setup["software"] if measured else None,
                    certificate=presented if measured else None,
                    list_sha256=_digest("list", presented) if measured else None,
                )  # fmt: skip


def _write_domains(put: _Writer, rng: random.Random, domains: int, hosts: int) -> None:
    seen: set[str] = set()
    for number in range(domains):
        routing = rng.choices(("mx", "implicit-mx", "null-mx", "none", "error"), (85, 5, 2, 6, 2))[0]
        mx_set = None
        if routing in ("mx", "implicit-mx"):
            named = list(_named(rng, hosts))
            mx_set = _digest("set", *named)[:32]
            if mx_set not in seen:
                seen.add(mx_set)
                for position, host in enumerate(named):
                    put(
                        schema.mx_set_host, mx_set=mx_set, position=position, preference=10 * position,
                        mx_host=_host(host), notes=[],
                    )  # fmt: skip
        put(
            schema.domain, domain=f"domain{number}.example", weight=float(rng.randrange(1, 50)), rank=number,
            order_key=rng.getrandbits(62), routing=routing, rcode="NOERROR", authenticated=False, mx_set=mx_set,
        )  # fmt: skip


def _named(rng: random.Random, hosts: int) -> Iterator[int]:
    """The MX hosts of one domain: a provider's, or one to three of its own."""
    if rng.random() < 0.6:
        first = int(PROVIDERS * rng.random() ** 3) // 4 * 4
        yield from range(first, first + rng.choice((2, 4)))
        return
    own = rng.randrange(PROVIDERS, hosts - 3)
    yield from range(own, own + rng.choices((1, 2, 3), (7, 2, 1))[0])


def _host(number: int) -> str:
    return f"mx{number}.mail{number % 977}.example"


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


if __name__ == "__main__":
    main()
