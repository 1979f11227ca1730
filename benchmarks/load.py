"""Runs the scripts of this directory as processes of their own, so that their cost is not the scanner's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 3600


def measured(script: str, *arguments: object) -> str:
    """What a script prints; it has to end well."""
    done = subprocess.run(
        command(script, *arguments),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment(),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{script}: {done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def serving(script: str, *arguments: object) -> Iterator[int]:
    """The port that a script serves on, for as long as the block runs."""
    process = subprocess.Popen(
        command(script, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(60)


def command(script: str, *arguments: object) -> list[str]:
    """How a script is started."""
    return [sys.executable, str(HERE / script), *map(str, arguments)]


def environment() -> dict[str, str]:
    """The environment in which scripts find the packages of the project."""
    return os.environ | {"PYTHONPATH": str(HERE.parent)}
