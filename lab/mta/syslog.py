"""A syslog for one root: collects what a server without another log says into a file (RFC 3164 lines, one each)."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path

MAX_LINE = 8192
STEP_SECONDS = 0.2


@contextlib.contextmanager
def collecting(device: Path, log: Path) -> Iterator[None]:
    """Be `device` (a root's dev/log) and append every message to `log` until the end."""
    device.unlink(missing_ok=True)
    stop = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, log.open("ab", buffering=0) as out:
        sock.bind(str(device))
        device.chmod(0o666)
        sock.settimeout(STEP_SECONDS)
        thread = threading.Thread(target=_collect, args=(sock, out, stop), name="lab-syslog")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            device.unlink(missing_ok=True)


def _collect(sock: socket.socket, out: RawIOBase, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            out.write(sock.recv(MAX_LINE).rstrip(b"\n\0") + b"\n")
