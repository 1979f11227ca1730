"""Figures of role client, and of server certificates that others saw, against a recount of the tests' own."""

import json
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from censuses import UNKNOWN, Census, random_census
from recount import private_issuer, value_of
from test_figures import report_of, same_numbers
from test_render import in_terminal

from reports import as_html, as_json, as_markdown, charts
from reports.definitions import DEFINITIONS, Source, Unit
from reports.headlines import headlines
from reports.roles import CARRIES, CERTIFICATE_KEYS
from scanner.records import EkuClass, Role


@pytest.fixture(scope="module", params=range(12))
def case(request):
    size = request.param
    census = random_census(size, domains=5 * (size % 3), hosts=3 + size % 4, sightings=10 * (size + 1))
    return census, report_of(census)


def seen_as(census, role):
    return [row for row in census.sightings if row["role"] == role]


def bands_of(census, role):
    """operator -> its band: by domains where there are any, else by what is seen most."""
    sizes = Counter()
    if role == "server":
        for domain in census.domains:
            sizes.update({census.hosts[host] for host in domain["mx"]})
    if not sizes:
        for row in seen_as(census, role):
            if row["operator"]:
                sizes[row["operator"]] += row["count"]
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))[:10]
    return {name: "1" if at == 0 else "2-5" if at < 5 else "6-10" for at, name in enumerate(ranked)}


def facts(census, bands, row, keys):
    """The key of one sighting."""
    place = {"certificate": row["sha256"], "mx_host": "own"}
    hosts = {"own": row["operator"]}
    return tuple(value_of(replace(census, hosts=hosts), bands, place | row, key) for key in keys)


def reason_of(row):
    if row["sha256"] == UNKNOWN:
        return "unknown-certificate"
    if row["sha256"] is None:
        return "no-certificate" if row["tls_version"] else "no-tls"
    return "no-session"


def recount(census, keys, unit, *, without_top=False):
    """(coverage, {key: (count, any)}) of one figure of role client."""
    bands = bands_of(census, "client")
    groups = defaultdict(list)
    for row in seen_as(census, "client"):
        name = {"certificate": row["sha256"], "operator": row["operator"], "weight": row["number"]}[unit]
        if name is not None and (unit, name) != ("certificate", UNKNOWN):
            groups[name].append(row)
    counts, touched, missing = Counter(), Counter(), Counter()
    for rows in groups.values():
        amount = rows[0]["count"] if unit == "weight" else 1
        kept = [row for row in rows if row["sha256"] in census.certificates]
        if "tls_version" in keys:
            kept = [row for row in kept if row["tls_version"]]
        if without_top:
            kept = [row for row in kept if row["operator"] not in bands]
        found = {facts(census, bands, row, keys) for row in kept}
        if found:
            own = found.pop() if len(found) == 1 else ("mixed",) * len(keys)
            counts[own] += amount
            for key in found | {own}:
                touched[key] += amount
        else:
            reasons = {reason_of(row) for row in rows}
            missing[reasons.pop() if len(reasons) == 1 else "mixed"] += amount
    return missing, {key: (counts[key], touched[key]) for key in touched}


def test_figures_of_role_client_equal_a_recount(case):
    census, report = case
    seen = 0
    for definition in DEFINITIONS:
        if definition.source is not Source.PROFILE:
            continue
        for unit in definition.client_units:
            figure = report.figure(definition.id, unit, Role.CLIENT)
            missing, rows = recount(census, definition.keys, unit)
            assert {row.key: (row.count, row.any) for row in figure.rows} == rows, (definition.id, unit)
            assert figure.coverage.not_measured == missing, (definition.id, unit)
            assert figure.coverage.measured == sum(row.count for row in figure.rows)
            assert figure.coverage.attempted == figure.coverage.measured + sum(missing.values())
            if figure.without_top_10 is not None:
                _, rest = recount(census, definition.keys, unit, without_top=True)
                assert {row.key: (row.count, row.any) for row in figure.without_top_10[1]} == rest
            seen += len(rows)
    assert seen


def test_private_issuers_of_clients_by_operators(case):
    census, report = case
    operators = defaultdict(set)
    for row in seen_as(census, "client"):
        if row["sha256"] in census.certificates:
            issuer = private_issuer(census.certificates[row["sha256"]])
            if issuer is not None:
                operators[issuer].update({row["operator"]} - {None})
    names = ["unknown", "1", *["2-9"] * 8, *["10-99"] * 90]
    figure = report.figure("private_spread", Unit.ISSUER, Role.CLIENT)
    assert {row.key[0]: row.count for row in figure.rows} == Counter(
        names[len(some)] for some in operators.values()
    )


def test_client_need_joins_both_roles_by_sha256(case):
    census, report = case
    servers = {e["certificate"] for e in census.endpoints if e["status"] == "measured"}
    servers |= {row["sha256"] for row in seen_as(census, "server")}
    said = defaultdict(set)
    for row in seen_as(census, "client"):
        said[row["sha256"]].add(row["required"])
    expected = Counter()
    for sha256 in (servers | set(said)) & set(census.certificates):
        required = "unknown"
        if sha256 in said:
            required = "yes" if True in said[sha256] else "no" if False in said[sha256] else "unknown"
        carries = CARRIES[EkuClass(census.certificates[sha256]["eku_class"])]
        expected[carries, "yes" if sha256 in said else "no", required] += 1
    figure = report.figure("client_need", Unit.CERTIFICATE, Role.CLIENT)
    assert {row.key: row.count for row in figure.rows} == expected


def test_servers_that_others_saw_are_counted_with_those_that_we_met(case):
    census, report = case
    bands = bands_of(census, "server")
    for definition in DEFINITIONS:
        if definition.source is not Source.PROFILE or Unit.CERTIFICATE not in definition.units:
            continue
        found = defaultdict(set)
        for row in seen_as(census, "server"):
            if row["sha256"] in census.certificates and CERTIFICATE_KEYS.issuperset(definition.keys):
                found[row["sha256"]].add(facts(census, bands, row, definition.keys))
        for row in census.endpoints:
            if row["status"] == "measured":
                found[row["certificate"]].add(tuple(value_of(census, bands, row, key) for key in definition.keys))
        counts = Counter(
            next(iter(keys)) if len(keys) == 1 else ("mixed",) * len(definition.keys) for keys in found.values()
        )
        figure = report.figure(definition.id, Unit.CERTIFICATE)
        assert {row.key: row.count for row in figure.rows if row.count} == counts, definition.id
        others = {row["sha256"] for row in seen_as(census, "server")} & set(census.certificates)
        assert figure.coverage.attempted == len(others | {e["certificate"] for e in census.endpoints} - {None})


def test_a_census_without_domains_weighs_servers_by_their_counts():
    census = random_census(3, domains=0, hosts=0, sightings=60)
    report = report_of(census)
    figure = report.figure("hierarchy", Unit.WEIGHT)
    known = [row for row in seen_as(census, "server") if row["sha256"] in census.certificates]
    assert figure.coverage.measured == sum(row["count"] for row in known)
    counts = Counter()
    for row in known:
        counts[census.certificates[row["sha256"]]["hierarchy"]] += row["count"]
    assert {row.key[0]: row.count for row in figure.rows} == counts
    assert report.figure("client_auth", Unit.CERTIFICATE).coverage.not_measured == {
        "no-session": len({row["sha256"] for row in known})
    }
    text = as_markdown.render(report)
    assert "Nobody was contacted" in text
    assert "None" not in text


def test_every_format_has_the_same_numbers(case):
    same_numbers(case[1])


def test_a_census_of_clients_only_says_nothing_of_servers():
    census = random_census(5, domains=0, hosts=0, sightings=30)
    census.sightings = seen_as(census, "client")
    report = report_of(census)
    assert {figure.role for figures in report.sections() for figure in figures} == {Role.CLIENT}
    for text in (as_markdown.render(report), in_terminal(report, 200), as_html.render(report)):
        assert "seen presenting it as a client" in text
        assert "required by a peer" in text
        assert "mail servers have a certificate for both roles" not in text
        assert "Not seen: whoever never came" in text
    document = json.loads(as_json.render(report))
    assert document["clients_scan"] == report.scan.scan
    roles = {(figure["id"], figure["unit"]): figure["role"] for figure in document["figures"] if figure["rows"]}
    assert set(roles.values()) == {"client"}
    assert [figure.name for figure in charts.drawn(report)] == ["eku-client", "hierarchy-client"]
    page = as_html.render(report)
    assert page.count('id="eku-client"') == page.count('id="client_need"') == 1


def test_where_nobody_looked_at_clients_nothing_is_said_of_them():
    report = report_of(random_census(5))
    assert report.clients is None
    (figure,) = [figure for figure in report.figures if figure.role is Role.CLIENT]
    assert figure.id == "client_need"
    assert {(presented, required) for _, presented, required in (row.key for row in figure.rows)} == {
        ("unknown", "unknown")
    }
    text = as_markdown.render(report)
    assert "seen presenting it as a client" not in text
    assert text.count("Not seen: ") == len(headlines(report)) > 5


def test_headlines_say_the_numbers():
    census = random_census(1, domains=0, hosts=0, certificates=1)
    (own,) = census.certificates.values()
    own["eku_class"] = "server+client"
    sightings = [
        {"number": n, "role": "client", "sha256": own["sha256"], "count": 5, "operator": None, "required": n == 0}
        for n in range(2)
    ]
    nothing = {"number": 2, "role": "client", "sha256": None, "count": 1, "operator": None, "required": None}
    census.sightings = [row | {"tls_version": "TLSv1.3"} for row in (*sightings, nothing)]
    document = json.loads(as_json.render(report_of(census)))
    presented, need = (headline["sentence"] for headline in document["headlines"])
    assert "Of 1 end entity certificates presented by clients, 1 (100.0 %) carry both" in presented
    assert "presented 10 times of 11" in presented
    assert "1 carry clientAuth; of those 1 were seen presented as a client, and 1 of them to a peer" in need


def test_an_empty_census_has_no_clients():
    report = report_of(Census())
    figure = report.figure("client_need", Unit.CERTIFICATE, Role.CLIENT)
    assert (figure.rows, figure.coverage.attempted) == ((), 0)
