"""Every locked package has a permissive licence, but for those named here with a reason."""

import re
from importlib import metadata
from pathlib import Path

import pytest

LOCK = (Path(__file__).parent.parent / "requirements.lock").read_text()
LOCKED = dict(re.findall(r"^([A-Za-z0-9._-]+)==\S+(?: ; ([^\\\n]*))?", LOCK, re.MULTILINE))

PERMISSIVE = re.compile(r"(?:^|\b)(?:0?BSD|MIT|Apache|ISC|PSF|Zlib|Unlicense|CC0)\b")
OTHER = re.compile("GPL|General Public|MPL|Mozilla|EPL|EUPL|CDDL|SSPL|Commons Clause|proprietary", re.IGNORECASE)
EXCEPTIONS = {
    "psycopg": "LGPL-3.0-only",  # the project's one exception: an extra, linked by nobody else
    "psycopg-binary": "LGPL-3.0-only",
    "psycopg-pool": "LGPL-3.0-only",  # the same project's, which Procrastinate needs
    "certifi": "MPL-2.0",  # data, unmodified
    "hypothesis": "MPL-2.0",  # for tests
    "pathspec": "MPL 2.0",  # for mypy and hatchling
}
ELSEWHERE = {"colorama"}
"""Not installed on the platforms of the lab: BSD-3-Clause."""


def stated(name):
    """What a package says of its licence: an SPDX expression, else its own words, else its classifiers."""
    said = metadata.metadata(name)
    expression, words = said.get("License-Expression"), said.get("License") or ""
    classifiers = [
        line.rpartition(" :: ")[2] for line in said.get_all("Classifier", []) if line.startswith("License :: OSI")
    ]
    if expression or (words and "\n" not in words and len(words) < 60):
        return expression or words
    return " AND ".join(classifiers)


def is_permissive(text):
    """Whether one can choose permissive terms only."""
    return any(
        all(PERMISSIVE.search(term) and not OTHER.search(term) for term in choice.split(" AND "))
        for choice in text.split(" OR ")
    )


@pytest.mark.parametrize("name", LOCKED)
def test_a_locked_package_is_permissive(name):
    if name in ELSEWHERE:
        assert "win32" in LOCKED[name]
        return
    text = stated(name)
    assert text
    assert is_permissive(text) or EXCEPTIONS.get(name, "no exception") in text, text


def test_exceptions_are_needed_and_the_rule_refuses():
    assert set(LOCKED) >= set(EXCEPTIONS)
    assert not is_permissive("GPL-3.0-or-later")
    assert not is_permissive("MIT AND AGPL-3.0")
    assert is_permissive("GPL-2.0 OR MIT")
    assert not is_permissive("")


def test_the_lock_names_no_registry_and_has_hashes():
    assert "://" not in LOCK
    assert LOCK.count("--hash=sha256:") > len(LOCKED)
