"""Roots for mail servers whose paths are compiled in: a small Debian each, entered by chroot.

No namespace is used: every server listens on loopback addresses of its own, on the network of the host.
Only the software matrix needs them; tests/lab does with packages. A root is made once under .lab/roots and kept.
Needs root and the command debootstrap.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.mta.listener import Credential, ServerError
from lab.mta.process import program

ROOTS = Path(__file__).parents[2] / ".lab" / "roots"
SUITE = "trixie"
STAMP = ".made"
MAKE_SECONDS = 600
# Packages that look for a running daemon find none: their scripts must neither start nor stop one of ours.
SILENT = {"usr/sbin/policy-rc.d": "exit 101", "usr/sbin/start-stop-daemon": "exit 0"}


def missing() -> str | None:
    """What keeps a root from being made or entered; None if nothing does."""
    if os.geteuid() != 0:
        return "a root for a mail server needs root"
    return None if program("debootstrap") else "debootstrap is not installed"


@dataclass(frozen=True, slots=True)
class Root:
    """A made root; paths are the host's unless `inside` turned them."""

    path: Path

    def inside(self, path: Path) -> str:
        """A path as a process in the root sees it."""
        return f"/{path.relative_to(self.path)}"

    def command(self, *words: str) -> tuple[str, ...]:
        """A command line that runs in the root."""
        return ("chroot", str(self.path), *words)

    def run(self, *words: str) -> None:
        """Run to the end; raises `ServerError` with the end of its output if it fails."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        _run(self.command(*words), environment)

    @contextlib.contextmanager
    def directory(self, name: str) -> Iterator[Path]:
        """A directory inside the root that other users may enter; removed at the end."""
        with tempfile.TemporaryDirectory(prefix=f"lab-{name}-", dir=self.path / "srv") as path:
            Path(path).chmod(0o755)
            yield Path(path)

    def install(self, credential: Credential, directory: Path, stem: str) -> tuple[str, str]:
        """Copy a certificate_list and its key into the root; their paths inside, the key for root alone."""
        targets = directory / f"{stem}.chain", directory / f"{stem}.key"
        for source, target in zip((credential.chain, credential.key), targets, strict=True):
            shutil.copyfile(source, target)
            target.chmod(0o600)
        return self.inside(targets[0]), self.inside(targets[1])


def made(name: str, packages: Sequence[str]) -> Root:
    """The root called `name` with `packages`, made now unless it is there; half a minute to a minute each."""
    root = Root(ROOTS / name)
    stamp = root.path / STAMP
    wanted = " ".join((SUITE, *sorted(packages)))
    if stamp.exists() and stamp.read_text() == wanted:
        return root
    if reason := missing():
        raise ServerError(reason)
    shutil.rmtree(root.path, ignore_errors=True)
    shutil.copytree(_base(), root.path, symlinks=True, copy_function=shutil.copy2, ignore=_devices)
    _make_devices(root.path)
    for file, body in SILENT.items():
        # A package that brings the file finds it diverted and leaves ours in place.
        root.run("dpkg-divert", "--local", "--rename", "--quiet", "--add", f"/{file}")
        (root.path / file).write_text(f"#!/bin/sh\n{body}\n")
        (root.path / file).chmod(0o755)
    root.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)
    stamp.write_text(wanted)
    return root


def _base() -> Path:
    base = ROOTS / SUITE
    if not (base / STAMP).exists():
        shutil.rmtree(base, ignore_errors=True)
        base.parent.mkdir(parents=True, exist_ok=True)
        _run(("debootstrap", "--variant=minbase", SUITE, str(base)), dict(os.environ))
        (base / STAMP).write_text(SUITE)
    return base


def _devices(directory: str, names: list[str]) -> list[str]:
    return names if Path(directory) == ROOTS / SUITE / "dev" else []


def _make_devices(root: Path) -> None:
    for name, minor in {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}.items():
        path = root / "dev" / name
        os.mknod(path, 0o020666, os.makedev(1, minor))
        path.chmod(0o666)


def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=MAKE_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise ServerError(f"{' '.join(command[:6])} ended with status {done.returncode}\n{end}")
