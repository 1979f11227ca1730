"""Two scans side by side: what was matched, what changed, and rows that sum to what was matched."""

import json

from test_lab_scan import mxcensus, scan, world  # noqa: F401  # the fixture

from reports.comparison import compare, document, lines, side
from reports.definitions import Unit


def row(
    host, address="192.0.2.1", *, eku="server-only", hierarchy="private", auth="not-requested", certificate="a"
):
    return {
        "mx_host": host, "address": address, "port": 25, "status": "measured", "eku_class": eku,
        "hierarchy": hierarchy, "client_auth": "not-requested", "certificate": certificate,
    }  # fmt: skip


def domain(name, *hosts):
    return {"domain": name, "mx": [{"host": host} for host in hosts]}


def changes(before, after, domains):
    found = compare(side(before, domains), side(after, domains))
    return {change.unit: change for change in found}


def transitions(change):
    return {(t.field, t.before, t.after): t.count for t in change.transitions if t.before != t.after}


def test_transitions_by_unit():
    before = [row("a", eku="server+client"), row("b", eku="server+client"), row("b", "192.0.2.2"), row("gone")]
    after = [
        row("a", certificate="b"),
        row("b", eku="server+client"),
        row("b", "192.0.2.2", eku="server+client", hierarchy="public-chrome"),
        row("new"),
    ]
    found = changes(before, after, [domain("one.test", "a", "b"), domain("two.test", "a")])
    assert found[Unit.ENDPOINT].matched == 3
    assert (found[Unit.ENDPOINT].only_before, found[Unit.ENDPOINT].only_after) == (1, 1)
    assert found[Unit.ENDPOINT].renewed == 1
    assert transitions(found[Unit.ENDPOINT]) == {
        ("eku", "server+client", "server-only"): 1,
        ("eku", "server-only", "server+client"): 1,
        ("hierarchy", "private", "public-chrome"): 1,
    }
    assert transitions(found[Unit.MX_HOST]) == {
        ("eku", "server+client", "server-only"): 1,
        ("eku", "mixed", "server+client"): 1,
        ("hierarchy", "private", "mixed"): 1,
    }
    assert found[Unit.DOMAIN].matched == 2
    for change in found.values():
        for field in ("eku", "hierarchy", "client_auth"):
            assert sum(t.count for t in change.transitions if t.field == field) == change.matched


def test_unmeasured_endpoints_are_not_matched_and_nothing_divides_by_zero():
    failed = row("a") | {"status": "failed", "eku_class": None}
    found = changes([failed], [row("a")], [])
    assert found[Unit.ENDPOINT].matched == 0
    assert found[Unit.ENDPOINT].only_after == 1
    assert document(found.values())[0]["transitions"] == []
    assert any("0 in both scans" in line for line in lines(found.values()))


def test_two_scans_of_one_world_differ_in_nothing_but_the_draw(world, tmp_path):  # noqa: F811
    scan(world, tmp_path, seed=1)
    scan(world, tmp_path, seed=1)
    result = json.loads(mxcensus(tmp_path, "compare", "1", "2", "--json").stdout)
    for unit in result["units"]:
        assert unit["matched"] > 100
        assert unit["certificate_renewed"] == 0
        assert all(t["before"] == t["after"] for t in unit["transitions"])
    assert "MX hosts" in mxcensus(tmp_path, "compare", "1", "2").stdout
    assert "no scan 9" in mxcensus(tmp_path, "compare", "1", "9", status=2).stderr
