"""Starts a whole lab in this process: certificates, servers, resolver, and the snapshot that goes with them."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.authority import Authority
from lab.dns import Nameserver
from lab.population import Population, populate
from lab.smtp import Servers, Visit

BLOCKS = range(64, 250)
"""Second octets of 127/8 that labs use; each process begins at another one."""


class World:
    """A running lab. A context manager; `folder` takes the trust snapshot."""

    def __init__(self, count: int, folder: Path) -> None:
        self.authority = Authority()
        block = BLOCKS[os.getpid() % len(BLOCKS)]
        self.population: Population = populate(count, f"127.{block}")
        self.snapshot = folder / "trust"
        self.authority.write_snapshot(self.snapshot)
        self._nameserver = Nameserver(self.population)
        self.port = _free_port()
        self._servers = Servers(self.population.hosts, self.authority, self.port)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._nameserver)
        self._stack.enter_context(self._servers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def resolver(self) -> str:
        """The resolver as `--resolver` takes it."""
        return f"127.0.0.1:{self._nameserver.port}"

    @property
    def visits(self) -> list[Visit]:
        """Every connection that the servers saw so far."""
        return list(self._servers.visits)

    def write_targets(self, path: Path) -> Path:
        """The lab's domains as CSV with weights, for `scan -f`."""
        lines = [f"{domain},{self.population.weights.get(domain, 1)}\n" for domain in self.population.domains]
        path.write_text("domain,weight\n" + "".join(lines), encoding="utf-8")
        return path


def _free_port() -> int:
    """A port that is free on every address: nobody listens on the wildcard address either."""
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        port: int = sock.getsockname()[1]
        return port
