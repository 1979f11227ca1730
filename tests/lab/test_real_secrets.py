"""A database's password, given in every way that works, is in no output, log, manifest, report or process title."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine

from lab.world import World
from mxcensus.cli import main
from storage.database import open_database

PASSWORD = "hunter2correcthorse"

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(12, tmp_path_factory.mktemp("lab")) as world:
        yield world


def command(world, url):
    return [
        sys.executable, "-m", "mxcensus", "scan", "good-0.example", "--db", url, "--resolver", world.resolver,
        "--port", str(world.port), "--trust", str(world.snapshot), "--allow-special-purpose", "--interval", "0",
        "--verbose", "--connection-log", "connections",
    ]  # fmt: skip


def start(folder, *words):
    return subprocess.Popen(
        [str(word) for word in words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"XDG_CONFIG_HOME": str(folder / "config"), "NO_COLOR": "1"},
        text=True,
    )


@pytest.fixture
def url(postgresql):
    """Trust authentication takes any password, so that it is really used."""
    made = postgresql.database(lambda template: open_database(template).close())
    yield made.replace("postgres@", f"postgres:{PASSWORD}@")
    postgresql.drop(made)


def test_the_password_is_nowhere(world, tmp_path, url, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    process = start(tmp_path, *command(world, url))
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 0, said
    for words in (
        ("report", "--format", "json", "-o", "r.json"),
        ("report", "--format", "md", "-o", "r.md"),
        ("report", "--format", "html", "-o", "r.html"),
        ("export", "--what", "domains", "-o", "d.jsonl"),
        ("export", "--what", "endpoints", "-o", "e.jsonl"),
        ("purge", "nobody.example"),
        ("doctor", "--resolver", world.resolver),
    ):
        assert main([*words, "--db", url]) in {0, 1}
        said += "".join(capsys.readouterr())
    assert "Traceback" not in said
    assert len(said) > 1000
    assert PASSWORD not in said
    engine = create_engine(url)
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        stored = [str(row) for table in tables.sorted_tables for row in connection.execute(table.select())]
    engine.dispose()
    assert len(stored) > 5
    assert PASSWORD not in "".join(stored)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"connections", "r.json", "r.md", "r.html", "e.jsonl"} <= {path.name for path in files}
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
    assert json.loads((tmp_path / "r.json").read_text())["figures"]


@pytest.mark.parametrize("form", ["place", "query", "equals"])
def test_no_process_title_has_the_password(world, tmp_path, url, form):
    """A stopped lab keeps the scan waiting, so that there is something to look at."""
    words = command(world, url)
    if form == "query":
        words[words.index("--db") + 1] = url.replace(f":{PASSWORD}@", "@") + f"&password={PASSWORD}"
    if form == "equals":
        words[words.index("--db") : words.index("--db") + 2] = [f"--db={url}"]
    words[words.index("--resolver") + 1] = "192.0.2.1"  # answers nobody: the scan waits
    process = start(tmp_path, *words)
    title = Path(f"/proc/{process.pid}/cmdline")
    if not title.exists():
        process.kill()
        pytest.skip("NOT TESTED: no /proc here, so process titles were not read")
    end = time.monotonic() + 60
    while PASSWORD.encode() in (seen := title.read_bytes()) or not seen:
        assert time.monotonic() < end, "the password stays in the process title"
        time.sleep(0.02)
    assert b"env:MXCENSUS_DB" in seen
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert "Traceback" not in said
    assert PASSWORD not in said


@pytest.mark.parametrize(
    "broken",
    [
        f"postgresql+psycopg://u:{PASSWORD}@127.0.0.1:1/census",
        f"postgresql+psycopg://u@127.0.0.1:1/census?password={PASSWORD}",
        f"postgresql+psycopg://u:{PASSWORD}@[broken/census",
        f"mysql://u:{PASSWORD}@127.0.0.1/census",
        f"postgresql+psycopg://u:{PASSWORD}@127.0.0.1:1/census?connect_timeout=x",
    ],
)
def test_no_error_shows_the_password(broken, monkeypatch, capsys):
    monkeypatch.setenv("CENSUS", broken)
    for given in (broken, "env:CENSUS"):
        assert main(["report", "--db", given]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert PASSWORD not in said


def test_a_variable_that_is_not_set(capsys):
    assert main(["report", "--db", "env:NO_SUCH_VARIABLE"]) == 2
    assert "NO_SUCH_VARIABLE is not set" in capsys.readouterr().err
