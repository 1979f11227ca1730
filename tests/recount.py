"""Figures of a random census counted again, one unit at a time, from its dicts: slow, plain and independent."""

import math
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

from censuses import START

MATRIX = tomllib.loads((Path(__file__).parents[1] / "reports/data/software_matrix.toml").read_text())
CERTIFICATE_FIELDS = {"eku": "eku_class", "hierarchy": "hierarchy", "key_type": "key_type"}
PUBLIC = ("public-chrome", "public-not-chrome", "public-purpose-unknown", "public-other-purpose", "distrusted")
LIMITS = [(47, "0-47"), (100, "48-100"), (200, "101-200"), (398, "201-398"), (825, "399-825")]


def value_of(census, bands, endpoint, field):
    """One key field of an endpoint."""
    if field in ("stage", "failure"):
        return endpoint[field] or "none"
    if field in ("client_auth", "dane", "mta_sts"):
        return endpoint[field]
    if field in ("tls_version", "software"):
        return endpoint[field] or "unknown"
    if field in ("separates_roles", "asks_by_default", "rejects_server_only"):
        seen = {row[field] for row in MATRIX["software"] if row["name"] == (endpoint["software"] or "unknown")}
        return seen.pop() if len(seen) == 1 else "differs" if seen else "not-seen"
    if field == "second_certificate":
        return "not-looked-for"  # tests/test_second_looks.py has what is
    if field == "client_ca_names":
        state = endpoint["client_auth"]
        return state if state in ("not-requested", "untested") else endpoint["asked_names"] or "unclassified"
    if field == "operators":
        return bands.get(census.hosts[endpoint["mx_host"]], "11 or more")
    certificate = census.certificates[endpoint["certificate"]]
    if field in CERTIFICATE_FIELDS:
        return certificate[CERTIFICATE_FIELDS[field]]
    if field == "key_bits":
        return str(certificate["key_bits"] or "unknown")
    if field == "programs":
        return "+".join(certificate["programs"]) or "none"
    if field == "exposure":
        exposure = certificate["exposure"]
        if exposure in (None, "not-affected"):
            return exposure or "unclassified"
        return exposure if certificate["not_before"] <= START <= certificate["not_after"] else "not-valid"
    if field in ("issued_since", "expires_since"):
        return certificate[field] or ("unknown" if certificate["exposure"] else "unclassified")
    if field == "ca_owner":
        hierarchy = certificate["hierarchy"]
        return (certificate["ca_owner"] or "unknown") if hierarchy in PUBLIC else hierarchy
    assert field == "validity"
    days = (certificate["not_after"] - certificate["not_before"]).total_seconds() / 86400
    return next((name for most, name in LIMITS if days < most), "826 or more")


def private_issuer(certificate):
    """What a private issuer is told by: its key; where the classification lacks it, its own key or its name."""
    kind = {"self-signed": certificate["spki_sha256"], "private": certificate["issuer"]}
    if certificate["hierarchy"] not in kind:
        return None
    return certificate["issuer_key"] or kind[certificate["hierarchy"]]


def operator_bands(census):
    """operator -> its band by rank."""
    sizes = Counter()
    for domain in census.domains:
        sizes.update({census.hosts[host] for host in domain["mx"]})
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))[:10]
    return {name: "1" if at == 0 else "2-5" if at < 5 else "6-10" for at, name in enumerate(ranked)}


def units_of(census, unit):
    """name -> (amount, its endpoints, why it has none)."""
    found = defaultdict(list)
    if unit in ("domain", "weight"):
        for row in census.domains:
            amount = 1 if unit == "domain" else (row["weight"] or 0.0)
            endpoints = [e for e in census.endpoints if e["mx_host"] in row["mx"]]
            sts = {None: "none", "": "unclassified"}.get(row["mta_sts"], row["mta_sts"])
            endpoints = [e | {"mta_sts": sts} for e in endpoints]
            if not row["authenticated"]:  # without a signed MX there is no DANE
                endpoints = [e | {"dane": "insecure"} for e in endpoints]
            reachable = any(census.addresses[host] for host in row["mx"])
            gap = "interrupted" if reachable else "no-address" if row["mx"] else row["routing"] or "unresolved"
            yield row["domain"], amount, endpoints, unenrolled(census, row["mx"]), gap
        return
    if unit in ("mx_host", "operator"):
        names = sorted(census.hosts) if unit == "mx_host" else sorted(set(census.hosts.values()))
        for name in names:
            hosts = [h for h in census.hosts if name in (h, census.hosts[h])]
            endpoints = [e for e in census.endpoints if e["mx_host"] in hosts]
            reachable = any(census.addresses[host] for host in hosts)
            yield name, 1, endpoints, unenrolled(census, hosts), "interrupted" if reachable else "no-address"
        return
    for endpoint in census.endpoints:
        if unit == "certificate" and endpoint["status"] != "measured":
            continue
        key = (endpoint["mx_host"], endpoint["address"]) if unit == "endpoint" else endpoint[unit]
        found[key].append(endpoint)
    for key, endpoints in found.items():
        yield key, 1, endpoints, False, None


def unenrolled(census, hosts):
    """Whether one of the hosts has an address, but no endpoint."""
    seen = {endpoint["mx_host"] for endpoint in census.endpoints}
    return any(census.addresses[host] and host not in seen for host in hosts)


def reason_of(endpoint):
    if endpoint["status"] == "not-tested":
        return endpoint["reason"] or "interrupted"
    return f"{endpoint['stage']}/{endpoint['failure'] or 'none'}"


def recount(census, fields, unit, statuses=("measured",), *, without_top=False):
    """(coverage, {key: (count, any)}) for one figure and unit."""
    bands = operator_bands(census)
    counts, touched, missing = defaultdict(list), defaultdict(list), defaultdict(list)
    for _, amount, endpoints, also_unenrolled, gap in units_of(census, unit):
        kept = [e for e in endpoints if e["status"] in statuses]
        if without_top:
            kept = [e for e in kept if census.hosts[e["mx_host"]] not in bands]
        keys = {tuple(value_of(census, bands, e, field) for field in fields) for e in kept}
        if keys:
            mixed = ("mixed",) * len(fields)
            own = keys.pop() if len(keys) == 1 else mixed
            counts[own].append(amount)
            for key in keys | {own}:
                touched[key].append(amount)
            continue
        reasons = {reason_of(e) for e in endpoints} | ({"interrupted"} if also_unenrolled else set())
        if amount:
            missing[reasons.pop() if len(reasons) == 1 else "mixed" if reasons else gap].append(amount)
    rows = {key: (math.fsum(counts[key]), math.fsum(values)) for key, values in touched.items()}
    return {reason: math.fsum(values) for reason, values in missing.items()}, rows
