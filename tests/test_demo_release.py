"""A release of the demo, made as a new user would: refused by default, being small; valid at a lower threshold."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

pytestmark = pytest.mark.xdist_group("demo")

SCHEMA = Path(__file__).parents[1] / "reports" / "data" / "release.schema.json"


def mxcensus(folder, *arguments, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "mxcensus", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=folder,
        env=os.environ | {"XDG_CONFIG_HOME": str(folder / "config"), "NO_COLOR": "1"},
        check=False,
    )
    assert done.returncode == status, (done.stdout[-1000:], done.stderr[-3000:])
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder that `mxcensus demo` was run in; its census is demo/census.db."""
    folder = tmp_path_factory.mktemp("demo")
    mxcensus(folder, "demo")
    return folder


def publish(demo, *more, status=0):
    return mxcensus(demo, "publish", "--db", "sqlite:///demo/census.db", *more, status=status)


def test_the_demo_is_too_small_for_the_default_threshold(demo):
    """As docs/disclosure.md says: it has ten operators in all."""
    refused = publish(demo, "-o", "refused", status=1)
    assert refused.stderr == (
        "mxcensus: refused: too few operators are behind every number, or one is behind most of it\n"
    )
    assert refused.stdout == ""
    assert not (demo / "refused").exists()


def test_with_a_lower_one_the_release_is_valid_and_names_nobody(demo):
    publish(demo, "-o", "release", "--min-count", 3, "--population", "the demo")
    release = json.loads((demo / "release" / "release.json").read_text())
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(release)
    counts = [row["count"] for figure in release["figures"] for row in figure["rows"]]
    assert 0 < sum(count is None for count in counts) < len(counts)
    published = "".join(
        path.read_text() for path in (demo / "release").iterdir() if path.name != "release.schema.json"
    )
    names = measured_names(demo)
    assert len(names) > 500
    assert [name for name in names if name in published] == []
    assert "private" in published


def measured_names(demo):
    """Every domain, host, address, serial number and digest of the demo's census."""
    found = set()
    fields = {
        "domains": ("domain",),
        "endpoints": ("mx_host", "address"),
        "certificates": ("sha256", "serial", "subject", "issuer_key", "spki_sha256"),
    }
    for what, names in fields.items():
        rows = mxcensus(demo, "export", "--db", "sqlite:///demo/census.db", "--what", what).stdout
        found |= {json.loads(line)[name] for line in rows.splitlines() for name in names}
    return {name for name in found if name and len(name) > len("127.0.0.1")}
