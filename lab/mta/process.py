"""Starts one server program in a process group of its own, waits until it answers, stops that group."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lab.mta.listener import ServerError

START_SECONDS = 30.0
STOP_SECONDS = 10.0
STEP_SECONDS = 0.05
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
"""Server programs live in sbin, which is not on everybody's path."""


def program(name: str) -> str | None:
    """Where a program is, or None."""
    return shutil.which(name, path=PATH)


@contextlib.contextmanager
def directory(name: str) -> Iterator[Path]:
    """A directory that other users may enter, since servers drop root; removed at the end."""
    with tempfile.TemporaryDirectory(prefix=f"lab-{name}-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def wait_until(done: Callable[[], bool], what: str, seconds: float) -> None:
    """Poll until `done()`; raises `ServerError` naming `what` when the time is up."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise ServerError(f"{what}: not within {seconds:g} s")
        time.sleep(STEP_SECONDS)


@contextlib.contextmanager
def process(
    name: str, command: Sequence[str], log: Path, answers: Callable[[], bool], *, user: str | None = None
) -> Iterator[None]:
    """Run `command` with its output in `log`, from the moment when `answers()` is true.

    Raises `ServerError` with the end of the log if the program ends before that or takes too long.
    """
    with log.open("wb") as out:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, user=user
        )
    try:
        try:
            wait_until(lambda: child.poll() is not None or answers(), f"{name} answers", START_SECONDS)
        except ServerError as error:
            raise ServerError(f"{error}\n{tail(log)}") from None
        if child.poll() is not None:
            raise ServerError(f"{name} ended with status {child.returncode}\n{tail(log)}")
        yield
    finally:
        _stop(child)


def _stop(child: "subprocess.Popen[bytes]") -> None:
    signal_group(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(STOP_SECONDS)
    # The group outlives its leader while a worker lingers; the number cannot be another group's until then.
    signal_group(child.pid, signal.SIGKILL)
    child.wait()


def stop_group(leader: int) -> None:
    """End a process group that a server made for itself, and that `process` therefore does not reach."""
    signal_group(leader, signal.SIGTERM)
    with contextlib.suppress(ServerError):
        wait_until(lambda: not signal_group(leader, 0), f"process group {leader} ends", STOP_SECONDS)
    signal_group(leader, signal.SIGKILL)


def signal_group(leader: int, number: int) -> bool:
    """Send a signal to a process group; whether there is such a group."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    return True


def tail(log: Path, lines: int = 30) -> str:
    """The end of a log, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def loopback_prefix() -> str:
    """The first three octets of a network in 127.0.0.0/8 that another test process is unlikely to use."""
    return f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}"


def free_port(address: str) -> int:
    """A port that is free for both TCP and UDP at `address` now."""
    for _ in range(20):
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind((address, 0))
            port = int(tcp.getsockname()[1])
            with contextlib.suppress(OSError):
                udp.bind((address, port))
                return port
    raise ServerError(f"no port of {address} is free for both TCP and UDP")
