"""Lays the lab's table out over domains: who hosts whom, on which addresses, and what the rows must say.

One cell holds every kind of host once, each with a domain of its own, and the domains that are odd in DNS. A lab of
many domains is many cells, cut to size; every cell has a shared host that several of its domains use. Names say
what is odd about their bearer, so that a row explains itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import idna

from lab.hostile import HOSTILE
from lab.hosts import KINDS, Fields, Kind, LabHost, expected_endpoint, measured
from lab.https import PolicyHost
from lab.sts import STS, Sts
from lab.tlsa import DANE, Dane

OPERATORS = ("alder", "birch", "cedar", "dogwood", "elm")
HOSTILE_OPERATORS = ("fir.test", "gorse.test", "hazel.test", "ivy.test", "juniper.test", "kelp.test", "larch.test")
LONE_OPERATOR = "yew.test"
POLICIES = 40
"""Of the hostile lab's first so many hosts, the honest ones are mail hosts of domains with MTA-STS."""

CUSTOMERS = 8
NAMES_ON_ONE_ADDRESS = 5
WIDE_SET = 24
SIGNED = ("signed-mail.test", "signed.example")
"""What the resolver says is authenticated: these zones and all below."""

Records = dict[tuple[str, str], list[str]]
"""(name, type) -> data as in a zone file; a name that stands nowhere is NXDOMAIN."""


@dataclass(slots=True)
class Population:
    """What a lab holds, and what a census of it must find; keys are those of the rows."""

    domains: list[str] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)  # domain -> as its owner writes it, where that differs
    weights: dict[str, int] = field(default_factory=dict)
    hosts: list[LabHost] = field(default_factory=list)
    zone: Records = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)  # name -> "SERVFAIL" or "silent"
    truncated: set[str] = field(default_factory=set)  # names whose MX set is whole over TCP only
    tlsa: dict[str, Dane] = field(default_factory=dict)  # host -> the TLSA records that it publishes
    policy_hosts: list[PolicyHost] = field(default_factory=list)
    policy_failures: dict[str, str | None] = field(default_factory=dict)  # domain with a valid record -> what fails
    unsigned: set[str] = field(default_factory=set)  # names in a signed zone that are not authenticated
    routes: dict[str, list[str]] = field(default_factory=dict)  # domain -> its MX hosts
    expected_domains: dict[str, Fields] = field(default_factory=dict)
    expected_endpoints: dict[tuple[str, str], Fields] = field(default_factory=dict)

    def addresses(self, host: str) -> list[str]:
        """The addresses at the end of the alias chain, IPv4 first."""
        name = next((target.rstrip(".") for target in self.zone.get((host, "CNAME"), [])), host)
        return [*self.zone.get((name, "A"), []), *self.zone.get((name, "AAAA"), [])]


def populate(count: int, block: str, *, ipv6: bool = False) -> Population:
    """A lab of `count` domains whose servers have addresses in `block` (the first two octets: `127.5`).

    With `ipv6`, one host has the address ::1 too.
    """
    population = Population()
    cell = 0
    while len(population.domains) < count:
        _cell(population, cell, block, ipv6=ipv6 and cell == 0)
        cell += 1
    _cut(population, count)
    return population


def populate_hostile(count: int, block: str) -> Population:
    """A lab of `count` hosts, each with a domain and an address: the hostile ones in turn, one in five honest.

    They belong to a few operators, all of which have hosts of each sort. Honest hosts and silent ones have a second
    name, of a domain of its own, so that their addresses are led to twice. The last host is alone with its operator
    and has three names, so that nothing but the interval comes between its visits. Some policy hosts share their
    addresses with mail hosts, and one in twenty with a hostile one that comes before it.
    """
    population = Population()
    names = list(HOSTILE)
    for number in range(count):
        lone = number == count - 1
        behaviour = "good" if lone or number % 5 == 4 else names[(number - number // 5) % len(names)]
        operator = LONE_OPERATOR if lone else HOSTILE_OPERATORS[number % len(HOSTILE_OPERATORS)]
        address = f"{block}.{number // 250}.{1 + number % 250}"
        also = ("also",) if behaviour.startswith(("good", "silent")) else ()
        for name in ("mx", *also, *(("third",) if lone else ())):
            host = f"{name}{number}.{behaviour}.{operator}"
            population.hosts.append(LabHost(host, address, Kind(behaviour), "mx.test"))
            population.zone[host, "A"] = [address]
            population.expected_endpoints[host, address] = _expected_of(behaviour)
            _add_domain(population, f"{name}{number}-{behaviour}.example", [(10, host)])
            if behaviour == "good" and name == "mx" and number < POLICIES:
                # At the address of the mail host itself, or at that of a hostile neighbour.
                at = address if number % 20 != 4 else f"{block}.0.{number - 3}"
                _add_policy(population, f"sts{number}.example", host, STS["enforce"], iter([at]))
    return population


def _expected_of(behaviour: str) -> Fields:
    """One certificate serves all hostile hosts, so the names in it say nothing."""
    if behaviour in HOSTILE:
        return HOSTILE[behaviour].expected
    return {name: value for name, value in expected_endpoint(KINDS["good"]).items() if name != "name_match"}


def cell_size() -> int:
    """How many domains a lab needs to have one of each."""
    population = Population()
    _cell(population, 0, "127.0", ipv6=False)
    return len(population.domains)


def _cell(population: Population, cell: int, block: str, *, ipv6: bool) -> None:
    addresses = (f"{block}.{cell}.{number}" for number in range(1, 255))
    own = {}
    for number, (name, kind) in enumerate(KINDS.items()):
        own[name] = f"{name}-{cell}.{OPERATORS[(number + cell) % len(OPERATORS)]}-mail.test"
        _add_host(population, own[name], next(addresses), kind)
    _shared(population, cell, next(addresses), backup=own["eku-server-only"])
    _odd(population, cell, next(addresses))
    _many_names(population, cell, next(addresses))
    _many_addresses(population, cell, addresses, ipv6=ipv6)
    _signed(population, cell, next(addresses), unsigned=own["good"])
    _dane(population, cell, addresses)
    _wide(population, cell, [next(addresses) for _ in range(WIDE_SET // 3)])
    for name, host in own.items():
        _add_domain(population, f"{name}-{cell}.example", [(10, host)])
    for name, sts in STS.items():
        _add_policy(population, f"sts-{name}-{cell}.example", own[sts.mx], sts, addresses)


def _shared(population: Population, cell: int, address: str, backup: str) -> None:
    """A provider with many customers, one customer with a backup elsewhere, and one who writes umlauts."""
    host = f"mx-{cell}.shared-mail.test"
    _add_host(population, host, address, KINDS["eku-server-client"])
    for number in range(CUSTOMERS):
        _add_domain(population, f"customer{number}-{cell}.example", [(10, host)])
    _add_domain(population, f"backed-up-{cell}.example", [(20, backup), (10, host)])
    written = f"bücher-{cell}.example"
    domain = idna.encode(written).decode()
    population.written[domain] = written
    _add_domain(population, domain, [(10, host)])


def _odd(population: Population, cell: int, address: str) -> None:
    """Domains whose DNS is the odd thing about them."""
    host = f"plain-{cell}.alder-mail.test"
    _add_host(population, host, address, KINDS["good"])
    zone, expect = population.zone, population.expected_domains

    def add(name: str, routing: str, rcode: str, mx: Sequence[Fields] = ()) -> str:
        domain = f"{name}-{cell}.example"
        population.domains.append(domain)
        population.routes[domain] = [str(row["host"]) for row in mx]
        expect[domain] = {"routing": routing, "rcode": rcode, "weight": 1, "authenticated": False, "mx": [*mx]}
        expect[domain]["mta_sts"] = "none" if mx else None
        return domain

    zone[add("null-mx", "null-mx", "NOERROR"), "MX"] = ["0 ."]
    beside = _mx_row(population, 10, host, "null-mx-ignored")
    zone[add("null-beside", "mx", "NOERROR", [beside]), "MX"] = ["0 .", f"10 {host}."]
    zone[add("nodata", "none", "NOERROR"), "TXT"] = ['"no mail here"']
    add("nxdomain", "none", "NXDOMAIN")
    population.failing[add("servfail", "error", "SERVFAIL")] = "SERVFAIL"
    alias = f"alias-{cell}.alder-mail.test"
    zone[alias, "CNAME"] = [f"{host}."]
    zone[add("mx-alias", "mx", "NOERROR", [_mx_row(population, 10, alias, "cname")]), "MX"] = [f"10 {alias}."]
    # The server presents the certificate of the name that it knows, not of its alias.
    population.expected_endpoints[alias, address] = {**expected_endpoint(KINDS["good"]), "name_match": False}
    literal = {**_mx_row(population, 10, address, "address-literal"), "rcode_a": None, "rcode_aaaa": None}
    zone[add("mx-literal", "mx", "NOERROR", [literal]), "MX"] = [f"10 {address}."]
    missing = f"missing-{cell}.alder-mail.test"
    nowhere = _mx_row(population, 10, missing) | {"rcode_a": "NXDOMAIN", "rcode_aaaa": "NXDOMAIN"}
    zone[add("mx-nowhere", "mx", "NOERROR", [nowhere]), "MX"] = [f"10 {missing}."]
    implicit = f"implicit-{cell}.example"
    zone[implicit, "A"] = [address]
    add("implicit", "implicit-mx", "NOERROR", [_mx_row(population, 0, implicit)])
    population.expected_endpoints[implicit, address] = {**expected_endpoint(KINDS["good"]), "name_match": False}


def _many_names(population: Population, cell: int, address: str) -> None:
    """Five names on one address: all are endpoints, a scan contacts some."""
    for number in range(NAMES_ON_ONE_ADDRESS):
        host = f"name{number}-{cell}.birch-mail.test"
        _add_host(population, host, address, KINDS["good"])
        _add_domain(population, f"named{number}-{cell}.example", [(10, host)])
        population.expected_endpoints[host, address] = {}  # which three are measured is the seed's choice


def _many_addresses(population: Population, cell: int, addresses: Iterator[str], *, ipv6: bool) -> None:
    """One host whose addresses disagree: a good one, an old one, one where nobody listens."""
    host = f"several-{cell}.cedar-mail.test"
    own = [(next(addresses), KINDS[name]) for name in ("good", "tls12", "refused")]
    for address, kind in [*own, *([("::1", KINDS["tls13"])] if ipv6 else [])]:
        _add_host(population, host, address, kind)
    _add_domain(population, f"several-{cell}.example", [(10, host)])


def _signed(population: Population, cell: int, address: str, unsigned: str) -> None:
    """Domains in a signed zone, one with its mail in a signed zone too."""
    host = f"mx-{cell}.signed-mail.test"
    _add_host(population, host, address, KINDS["good"], DANE["absent"])
    _add_domain(population, f"both-{cell}.signed.example", [(10, host)])
    _add_domain(population, f"half-{cell}.signed.example", [(10, unsigned)])


def _dane(population: Population, cell: int, addresses: Iterator[str]) -> None:
    """Hosts with TLSA records, each for a signed domain; a domain whose MX answer is not signed names one too."""
    for name, plan in DANE.items():
        host = f"dane-{name}-{cell}.signed-mail.test"
        _add_host(population, host, next(addresses), plan.kind, plan)
        _add_domain(population, f"dane-{name}-{cell}.signed.example", [(10, host)])
    _add_domain(population, f"dane-unsigned-{cell}.example", [(10, f"dane-ee-{cell}.signed-mail.test")])


def _wide(population: Population, cell: int, addresses: Sequence[str]) -> None:
    """A large provider: an MX set that takes TCP, three names on each address."""
    hosts = [f"mx{number:02d}-{cell}.inbound.wide-mail.test" for number in range(WIDE_SET)]
    for number, host in enumerate(hosts):
        _add_host(population, host, addresses[number % len(addresses)], KINDS["eku-server-client"])
    domain = f"wide-{cell}.example"
    population.truncated.add(domain)
    _add_domain(population, domain, [(10 * (1 + number // 8), host) for number, host in enumerate(hosts)])


def _add_policy(population: Population, domain: str, host: str, sts: Sts, addresses: Iterator[str]) -> None:
    """A domain with MTA-STS, and its policy host on an address of its own."""
    _add_domain(population, domain, [(10, host)])
    population.expected_domains[domain]["mta_sts"] = sts.mta_sts
    population.zone[f"_mta-sts.{domain}", "TXT"] = list(sts.record)
    if sts.fails:
        population.failing[f"_mta-sts.{domain}"] = "SERVFAIL"
    if sts.mta_sts in ("none", "record-invalid", "record-error"):
        return
    population.policy_failures[domain] = sts.failure
    if sts.behaviour == "nowhere":
        return
    name, address = f"mta-sts.{domain}", next(addresses)
    population.zone[name, "A"] = [address]
    if sts.behaviour != "refused":
        body = sts.body.replace("{mx}", host).replace("{parent}", host.partition(".")[2])
        population.policy_hosts.append(PolicyHost(name, address, sts, body.encode()))


def _add_host(population: Population, host: str, address: str, kind: Kind, dane: Dane | None = None) -> None:
    """A host; with `dane` it stands in a signed zone, and its TLSA records are published later."""
    population.hosts.append(LabHost(host, address, kind))
    name = host
    if dane is not None and dane.alias:
        name = f"real.{host}"
        population.zone[host, "CNAME"] = [f"{name}."]
    population.zone.setdefault((name, "AAAA" if ":" in address else "A"), []).append(address)
    judged: Fields = {"dane": "insecure", "dane_record": None} if measured(kind) else {"dane": None}
    if dane is not None:
        population.tlsa[host] = dane
        judged = {"dane": dane.dane, "dane_record": dane.record}
    population.expected_endpoints[host, address] = expected_endpoint(kind) | judged


def _add_domain(population: Population, domain: str, mx: list[tuple[int, str]]) -> None:
    population.domains.append(domain)
    population.weights[domain] = 1 + len(population.domains) % 97
    population.zone[domain, "MX"] = [f"{preference} {host}." for preference, host in mx]
    population.routes[domain] = [host for _, host in mx]
    population.expected_domains[domain] = {
        "routing": "mx",
        "rcode": "NOERROR",
        "weight": population.weights[domain],
        "authenticated": is_signed(domain),
        "mta_sts": "none",
        "mx": [
            _mx_row(population, preference, host, *(["cname"] if (host, "CNAME") in population.zone else []))
            for preference, host in sorted(mx)
        ],
    }


def _mx_row(population: Population, preference: int, host: str, *notes: str) -> Fields:
    """One MX as the row of a domain has it; most hosts have an A record and no AAAA."""
    return {
        "preference": preference,
        "host": host,
        "addresses": population.addresses(host),
        "rcode_a": "NOERROR",
        "rcode_aaaa": "NOERROR",
        "authenticated": is_signed(host),
        "notes": list(notes),
        "tlsa": None,  # or what `lab.world` publishes
    }


def is_signed(name: str) -> bool:
    """Whether the resolver says that what it answers for a name is authenticated."""
    return any(name == zone or name.endswith(f".{zone}") for zone in SIGNED)


def _cut(population: Population, count: int) -> None:
    """Keep `count` domains, and the expectations of what they lead to."""
    del population.domains[count:]
    kept = set(population.domains)
    named = {host for domain in kept for host in population.routes[domain]}
    population.policy_failures = {d: why for d, why in population.policy_failures.items() if d in kept}
    population.expected_domains = {d: row for d, row in population.expected_domains.items() if d in kept}
    population.expected_endpoints = {
        key: row for key, row in population.expected_endpoints.items() if key[0] in named
    }
