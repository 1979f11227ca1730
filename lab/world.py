"""Starts a whole lab: certificates, servers, resolver, and the snapshot that goes with them.

`World` runs in threads of this process; `lab.process` has the same in a process of its own.
"""

import random
import resource
import socket
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.authority import Authority
from lab.dns import Nameserver, Zone
from lab.hosts import Fields, expected_certificate
from lab.https import PolicyServers, Request
from lab.population import Population, populate, populate_hostile
from lab.publish import publish_tlsa
from lab.smtp import Servers
from lab.talk import Visit

BLOCKS = range(64, 250)
"""Second octets of 127/8 that labs use."""
PORTS = range(20000, 32000)
"""Below what systems give to outgoing connections."""
TRIES = 50
NO_PORT = "no port that is free on every address of a lab"


class Expectations:
    """What a census of a lab must find, by the keys of the rows: declared rows, joined with what hosts present."""

    def __init__(self, population: Population, presented: dict[tuple[str, str], list[str]]) -> None:
        self.domains = population.expected_domains
        self.endpoints = {
            key: _with_certificates(fields, presented.get(key))
            for key, fields in population.expected_endpoints.items()
        }
        kinds = {(host.name, host.address): host.kind for host in population.hosts}
        self.certificates = {
            str(fields["certificate"]): expected_certificate(kinds[key])
            for key, fields in self.endpoints.items()
            if fields.get("certificate")
        }


def _with_certificates(fields: Fields, listed: list[str] | None) -> Fields:
    """Aliases present what is not theirs, so they are not among the presented."""
    if listed is None or fields.get("status") != "measured":
        return fields
    return fields | {"certificate": listed[0], "certificate_list": listed}


class World:
    """A running lab. A context manager; `folder` takes the trust snapshot.

    Ports and addresses are drawn anew, and drawn again where another lab has them, so that labs may run side by
    side. With `log`, every finished visit is written there as a line of JSON. With `hostile` it is another lab, of
    servers that mean ill.
    """

    def __init__(
        self, count: int, folder: Path, log: TextIOWrapper | None = None, *, hostile: bool = False
    ) -> None:
        _allow_open_files()
        self.authority = Authority()
        self.snapshot = folder / "trust"
        self.authority.write_snapshot(self.snapshot)
        self.ipv6 = has_ipv6()
        self._hostile = hostile
        self.block, self.port, self.population, self._servers = self._start(count, log)
        self.https_port, self._policy_servers = self._start_policies()
        publish_tlsa(self.population, self._servers.presented, self.authority, self.port)
        self._nameserver = Nameserver(Zone(self.population))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._nameserver)
        self._stack.enter_context(self._servers)
        self._stack.enter_context(self._policy_servers)
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

    @property
    def requests(self) -> list[Request]:
        """Every connection that the policy hosts saw so far."""
        return list(self._policy_servers.requests)

    @property
    def presented(self) -> dict[tuple[str, str], list[str]]:
        """(host, address) -> SHA-256 of each certificate that it presents, in order."""
        return {key: presented.digests for key, presented in self._servers.presented.items()}

    @property
    def expected(self) -> Expectations:
        return Expectations(self.population, self.presented)

    def write_targets(self, path: Path) -> Path:
        """The lab's domains as CSV with weights, for `scan -f`."""
        return write_targets(self.population, path)

    def _start(self, count: int, log: TextIOWrapper | None) -> tuple[str, int, Population, Servers]:
        draw = random.SystemRandom()
        for _ in range(TRIES):
            block, port = f"127.{draw.choice(BLOCKS)}", draw.choice(PORTS)
            population = lay_out(count, block, ipv6=self.ipv6, hostile=self._hostile)
            try:
                return block, port, population, Servers(population.hosts, self.authority, port, log)
            except OSError:  # taken
                continue
        raise OSError(NO_PORT)

    def _start_policies(self) -> tuple[int, PolicyServers]:
        draw = random.SystemRandom()
        for _ in range(TRIES):
            port = draw.choice(PORTS)
            try:
                return port, PolicyServers(self.population.policy_hosts, self.authority, port)
            except OSError:  # taken
                continue
        raise OSError(NO_PORT)


def lay_out(count: int, block: str, *, ipv6: bool, hostile: bool) -> Population:
    """The one lab or the other."""
    return populate_hostile(count, block) if hostile else populate(count, block, ipv6=ipv6)


def write_targets(population: Population, path: Path) -> Path:
    """The domains as their owners write them, with weights, as CSV."""
    lines = [
        f"{population.written.get(domain, domain)},{population.weights.get(domain, 1)}\n"
        for domain in population.domains
    ]
    path.write_text("domain,weight\n" + "".join(lines), encoding="utf-8")
    return path


def has_ipv6() -> bool:
    """Whether ::1 can be listened on."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _allow_open_files() -> None:
    """A lab has a socket for each address: use what the system lets us have without asking anybody."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        wanted = 65536 if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
