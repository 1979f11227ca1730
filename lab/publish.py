"""Puts into a lab's zone what depends on its certificates and port: TLSA records, once the servers have both."""

import hashlib
from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lab.authority import Authority, Presented
from lab.hosts import Fields
from lab.population import Population


def publish_tlsa(
    population: Population, presented: Mapping[tuple[str, str], Presented], authority: Authority, port: int
) -> None:
    """Write the TLSA records of all hosts that have a plan, and what rows of domains must say of them."""
    lists = {host: shown for (host, _), shown in presented.items()}
    rows: dict[str, Fields] = {}
    for host, plan in population.tlsa.items():
        base = f"real.{host}" if plan.alias else host
        owner = f"_{port}._tcp.{base}"
        records = [
            f"{usage} {selector} {matching} {_data(selector, matching, what, lists[host], authority)}"
            for usage, selector, matching, what in plan.records
        ]
        if records:
            population.zone[owner, "TLSA"] = records
        if plan.fails:
            population.failing[owner] = "SERVFAIL"
        if plan.unsigned:
            population.unsigned.add(owner)
        rows[host] = {
            "base": base,
            "rcode": "SERVFAIL" if plan.fails else "NOERROR" if records else "NXDOMAIN",
            "authenticated": not (plan.fails or plan.unsigned),
            "records": [] if plan.fails else sorted(records),
        }
    for domain in population.expected_domains.values():
        for mx in domain["mx"]:  # type: ignore[attr-defined]  # rows as `lab.population` makes them
            mx["tlsa"] = rows.get(mx["host"])


def _data(selector: int, matching: int, what: str, presented: Presented, authority: Authority) -> str:
    content = _content(selector, what, presented, authority)
    if matching == 0:
        return content.hex()
    return hashlib.new("sha512" if matching == 2 else "sha256", content).hexdigest()


def _content(selector: int, what: str, presented: Presented, authority: Authority) -> bytes:
    if what == "other":
        return b"nothing that any host presents"
    places = {"own": 0, "issuer": 1, "last": -1}
    der = authority.roots["everywhere"].der if what == "root" else presented.certificate_list[places[what]]
    if selector == 0:
        return der
    key = x509.load_der_x509_certificate(der).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
