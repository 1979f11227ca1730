"""The software matrix: what follows from cells, the page, the data, and that what is committed is sound."""

import tomllib
from datetime import date
from pathlib import Path

import pytest

from matrix import render
from matrix.results import CONTROL, VERSIONS, Cell, Seen
from reports import software_matrix
from scanner.software import table

ROOT = Path(__file__).parents[1]
DATA = tomllib.loads((ROOT / "reports/data/software_matrix.toml").read_text())
FULL, LITTLE = frozenset({"PIPELINING", "DSN"}), frozenset({"DSN"})


def cells(mode, variant, accepted=True, said="", client_auth="requested", keywords=FULL):
    return [Cell(mode, version, variant, client_auth, accepted, said, keywords) for version in VERSIONS]


def seen(*groups, **values):
    found = tuple(cell for group in groups for cell in group)
    return Seen("postfix", "1", "OpenSSL", found, **values)


STRICT = seen(
    cells("default", CONTROL, client_auth="not-requested"),
    cells("asks", CONTROL),
    cells("asks", "server-only"),
    cells("insists", CONTROL, accepted=False, said="alert 116", client_auth="required"),
    cells("insists", "both"),
    cells("insists", "server-only", accepted=False, said="alert 43"),
    presents_by_default="nothing",
    presents_when_told="client",
    server_kept=True,
)
GATED = seen(
    cells("default", CONTROL),
    cells("asks", CONTROL),
    cells("asks", "both", keywords=FULL | {"AUTH EXTERNAL"}),
    cells("insists", CONTROL, keywords=LITTLE),
    cells("insists", "both"),
    cells("insists", "server-only", keywords=LITTLE),
)


def test_what_follows_from_refusals():
    assert (STRICT.asks_by_default, STRICT.can_ask, STRICT.can_require) == ("no", "yes", "yes")
    assert (STRICT.rejects_server_only, STRICT.separates_roles) == ("yes", "yes")
    assert STRICT.takes("no-eku") == "not-seen"


def test_a_server_that_tells_less_requires_too():
    assert (GATED.asks_by_default, GATED.can_require, GATED.rejects_server_only) == ("yes", "yes", "yes")
    assert GATED.more_keywords("both", "asks") == "yes"
    assert GATED.separates_roles == "not-seen"


def test_a_server_that_takes_everything_rejects_nothing():
    lenient = seen(
        cells("insists", CONTROL, accepted=False), cells("insists", "both"), cells("insists", "server-only")
    )
    assert lenient.rejects_server_only == "no"
    assert seen(cells("insists", "server-only", accepted=False)).rejects_server_only == "not-seen"


def test_versions_that_disagree_differ():
    half = seen([*cells("insists", "both"), *cells("insists", "server-only")[:1]],
                [Cell("insists", "TLSv1.3", "server-only", "required", False, "alert 43")])  # fmt: skip
    assert half.rejects_server_only == "differs"
    assert half.refusals("server-only") == ["", "alert 43"]


@pytest.mark.parametrize(
    ("told", "kept", "expected"),
    [("client", True, "yes"), ("server", True, "no"), ("client", False, "no"), ("not-seen", None, "not-seen")],
)
def test_separate_roles_need_both(told, kept, expected):
    assert seen(presents_when_told=told, server_kept=kept).separates_roles == expected


def test_the_data_says_what_the_page_says():
    day = date(2026, 3, 1)
    data = tomllib.loads(render.data([STRICT, GATED], day))
    assert data["observed"] == day
    assert data["software"][0]["taken_where_required"] == {"server-only": "no", "both": "yes"}
    page = render.document([STRICT, GATED], day)
    assert "| postfix | 1 | OpenSSL | no | yes | yes | yes | nothing | client | yes |" in page
    assert "| postfix | alert 116 | alert 43 | not-seen | taken |" in page
    assert "| postfix | fewer keywords | fewer keywords | not-seen | taken |" in page


def test_observations_that_disagree_differ_and_what_was_not_seen_is_not_said():
    observed = [{"name": "exim", "asks": "yes"}, {"name": "exim", "asks": "no"}, {"name": "postfix", "asks": "no"}]
    assert dict(software_matrix.joined(observed, "asks")) == {"exim": "differs", "postfix": "no"}


def test_the_committed_data_can_be_joined_and_stands_on_the_page():
    known = {entry.name for entry in table()}
    page = (ROOT / "docs/software-matrix.md").read_text()
    assert f"observed on loopback on {DATA['observed']}" in page
    for one in DATA["software"]:
        assert one["name"] in known
        assert {one[fact] for fact in software_matrix.FACTS} <= {"yes", "no", "differs", "not-seen"}
        assert f"| {one['name']} | {one['version']} | {one['library']} | {one['asks_by_default']} |" in page
    assert {one["name"] for one in DATA["software"]} == {
        "postfix", "exim", "opensmtpd", "sendmail", "courier", "haraka",
    }  # fmt: skip
