"""Lays the lab's table out over domains: who hosts whom, on which addresses, and what the rows must say.

One cell holds every kind of host once, each with a domain of its own, and the domains that are odd in DNS. A lab of
many domains is many cells, cut to size; every cell has a shared host that several of its domains use.
"""

from dataclasses import dataclass, field

from lab.hosts import KINDS, Fields, Kind, expected_endpoint

OPERATORS = ("alder", "birch", "cedar", "dogwood", "elm")
Records = dict[tuple[str, str], list[str]]
"""(name, type) -> data as in a zone file; a name that stands nowhere is NXDOMAIN."""


@dataclass(slots=True)
class LabHost:
    """One server: its name, its address, its kind; None for a name that only shares an address."""

    name: str
    address: str
    kind: Kind


@dataclass(slots=True)
class Population:
    """What a lab holds, and what a census of it must find."""

    domains: list[str] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    hosts: list[LabHost] = field(default_factory=list)
    zone: Records = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)  # name -> "SERVFAIL" or "silent"
    expected_domains: dict[str, Fields] = field(default_factory=dict)
    expected_endpoints: dict[tuple[str, str], Fields] = field(default_factory=dict)


def populate(count: int, block: str) -> Population:
    """A lab of `count` domains whose servers have addresses in `block` (the first two octets: `127.5`)."""
    population = Population()
    cell = 0
    while len(population.domains) < count:
        _cell(population, cell, block)
        cell += 1
    _cut(population, count)
    return population


def _cell(population: Population, cell: int, block: str) -> None:
    addresses = (f"{block}.{cell}.{number}" for number in range(1, 255))
    for number, (name, kind) in enumerate(KINDS.items()):
        operator = f"{OPERATORS[(number + cell) % len(OPERATORS)]}-mail.test"
        host = f"{name}-{cell}.{operator}"
        _add_host(population, host, next(addresses), kind)
        _add_domain(population, f"{name}-{cell}.example", [(10, host)])
    _shared(population, cell, next(addresses))
    _odd(population, cell, next(addresses))
    _many_names(population, cell, next(addresses))


def _shared(population: Population, cell: int, address: str) -> None:
    """A provider with many customers, and one customer with a backup elsewhere."""
    host = f"mx-{cell}.shared-mail.test"
    _add_host(population, host, address, KINDS["eku-server-client"])
    for number in range(8):
        _add_domain(population, f"customer{number}-{cell}.example", [(10, host)])
    backup = f"eku-server-only-{cell}.{OPERATORS[(1 + cell) % len(OPERATORS)]}-mail.test"
    _add_domain(population, f"backed-up-{cell}.example", [(20, backup), (10, host)])


def _odd(population: Population, cell: int, address: str) -> None:
    """Domains whose DNS is the odd thing about them."""
    host = f"plain-{cell}.alder-mail.test"
    _add_host(population, host, address, KINDS["good"])
    zone, expect = population.zone, population.expected_domains

    def add(name: str, routing: str, rcode: str | None, **more: object) -> str:
        domain = f"{name}-{cell}.example"
        population.domains.append(domain)
        expect[domain] = {"routing": routing, "rcode": rcode, **more}
        return domain

    zone[add("null-mx", "null-mx", "NOERROR"), "MX"] = ["0 ."]
    zone[add("null-beside", "mx", "NOERROR"), "MX"] = ["0 .", f"10 {host}."]
    zone[add("nodata", "none", "NOERROR"), "TXT"] = ['"no mail here"']
    add("nxdomain", "none", "NXDOMAIN")
    population.failing[add("servfail", "error", "SERVFAIL")] = "SERVFAIL"
    alias = f"alias-{cell}.alder-mail.test"
    zone[alias, "CNAME"] = [f"{host}."]
    zone[add("mx-alias", "mx", "NOERROR"), "MX"] = [f"10 {alias}."]
    population.expected_endpoints[alias, address] = {"status": "measured"}
    zone[add("mx-literal", "mx", "NOERROR"), "MX"] = [f"10 {address}."]
    zone[add("mx-nowhere", "mx", "NOERROR"), "MX"] = [f"10 missing-{cell}.alder-mail.test."]
    implicit = add("implicit", "implicit-mx", "NOERROR")
    zone[implicit, "A"] = [address]
    population.expected_endpoints[implicit, address] = {"status": "measured"}


def _many_names(population: Population, cell: int, address: str) -> None:
    """Five names on one address: all are endpoints, a scan contacts some."""
    for number in range(5):
        host = f"name{number}-{cell}.birch-mail.test"
        _add_host(population, host, address, KINDS["good"])
        _add_domain(population, f"named{number}-{cell}.example", [(10, host)])
        population.expected_endpoints[host, address] = {}  # which three are measured is the seed's choice


def _add_host(population: Population, host: str, address: str, kind: Kind) -> None:
    population.hosts.append(LabHost(host, address, kind))
    population.zone[host, "A"] = [address]
    population.expected_endpoints[host, address] = expected_endpoint(kind)


def _add_domain(population: Population, domain: str, mx: list[tuple[int, str]]) -> None:
    population.domains.append(domain)
    population.weights[domain] = 1 + len(population.domains) % 97
    population.zone[domain, "MX"] = [f"{preference} {host}." for preference, host in mx]
    population.expected_domains[domain] = {"routing": "mx", "rcode": "NOERROR"}


def _cut(population: Population, count: int) -> None:
    """Keep `count` domains, and the expectations of what they lead to."""
    del population.domains[count:]
    kept = set(population.domains)
    population.expected_domains = {d: row for d, row in population.expected_domains.items() if d in kept}
    named = {
        value.split(" ")[1].rstrip(".") for domain in kept for value in population.zone.get((domain, "MX"), [])
    } | {domain for domain in kept if population.expected_domains[domain]["routing"] == "implicit-mx"}
    population.expected_endpoints = {
        key: row for key, row in population.expected_endpoints.items() if key[0] in named
    }
