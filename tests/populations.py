"""Random populations without a database: endpoints as dicts, counted by hand into `Counts` and parts."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType

from censuses import START

from reports import figures
from reports.definitions import DEFINITIONS, Source, Unit
from reports.figures import Report
from scanner.records import ScanInfo
from storage import counts
from storage.contributions import Part
from storage.profiles import FACTS

EKU = FACTS.index("eku")
CLASSES = [  # hierarchy, programs, owner: as classification makes them
    ("public-chrome", "chrome+mozilla", "Owner A"),
    ("public-chrome", "apple+chrome+mozilla", "Owner B"),
    ("public-not-chrome", "mozilla", "Owner B"),
    ("private", "none", "private"),
    ("self-signed", "none", "self-signed"),
    ("undetermined", "none", "undetermined"),
]
EKUS = ["server+client", "server-only", "absent", "any", "client-only"]
KEYS = [("rsa", "2048"), ("ec", "256"), ("rsa", "4096")]
VALIDITIES = ["48-100", "201-398", "826 or more"]
SOFTWARE = ["postfix", "exim", "sendmail", "unknown"]
ENDS = [("quit", "none", "not-requested"), ("quit", "none", "requested"), ("ehlo-after-tls", "closed", "required")]
LOST = [("connect", "refused"), ("connect", "timeout"), ("ehlo", "not-offered")]


@dataclass
class Population:
    """Endpoints with operator, host, address, certificate, profile; domains as (hosts, weight, how many)."""

    profiles: dict[int, tuple] = field(default_factory=dict)
    endpoints: list[dict] = field(default_factory=list)
    domains: list[tuple] = field(default_factory=list)
    unrouted: dict = field(default_factory=dict)
    weighted: bool = False

    def members(self, unit):
        """Unit -> its (operator, profile) pairs, and how many units are like this one, with their weight."""
        found = defaultdict(set)
        if unit == "domain":
            by_host = defaultdict(set)
            for row in self.endpoints:
                by_host[row["mx_host"]].add((row["operator"], row["profile"]))
            for number, (hosts, weight, units) in enumerate(self.domains):
                yield number, set().union(*(by_host[host] for host in hosts)), units, weight
            return
        for number, row in enumerate(self.endpoints):
            if unit == "certificate" and row["certificate"] is None:
                continue
            found[number if unit == "endpoint" else row[unit]].add((row["operator"], row["profile"]))
        yield from ((name, pairs, 1, 0.0) for name, pairs in found.items())

    def parts(self, unit):
        for _, pairs, units, weight in self.members(unit):
            every = frozenset(profile for _, profile in pairs)
            for operator in {operator for operator, _ in pairs}:
                own = frozenset(profile for other, profile in pairs if other == operator)
                yield Part(operator, own, every, units, weight)

    def counts(self):
        families = counts.Families(self.profiles)
        tallies = {}
        for unit in ("certificate", "address", "mx_host", "operator", "endpoint", "domain"):
            sets = [
                (frozenset(profile for _, profile in pairs), units, weight)
                for _, pairs, units, weight in self.members(unit)
            ]
            tallies |= {
                (unit, family): families.tallies(family, counts._Sets((), sets)) for family in counts.FAMILIES
            }
        routing = {("mx", True): counts.Amount(sum(d[2] for d in self.domains), sum(d[1] for d in self.domains))}
        routing |= {(way, False): counts.Amount(number) for way, number in self.unrouted.items()}
        return counts.Counts(
            families.facts, tallies, MappingProxyType(routing), self.weighted, {}, {}, "domain", self.need()
        )

    def need(self):
        """The certificates by EKU class, of which nobody looked whether they are presented by clients."""
        classes = {row["certificate"]: self.profiles[row["profile"]][EKU] for row in self.endpoints}
        return dict(Counter((eku, False, None) for name, eku in classes.items() if name is not None))

    def report(self, names=None, units=None, scan=None):
        """The figures asked for, of those that need no ready-made counts."""
        census = figures._Census(self.counts())
        scan = scan or info()
        trust = figures.trust_info(scan)
        made = [
            figures._figure(census, definition, unit, trust, ())
            for definition in DEFINITIONS
            for unit in definition.units
            if (names is None or definition.id in names)
            and (units is None or unit in units)
            and definition.source in (Source.PROFILE, Source.TESTED, Source.ROUTING)
            and (unit is not Unit.WEIGHT or self.weighted)
        ]
        if (names is None or "client_need" in names) and (units is None or Unit.CERTIFICATE in units):
            (need,) = (definition for definition in DEFINITIONS if definition.id == "client_need")
            made.append(figures._client_need(census.counts, need, Unit.CERTIFICATE))
        return Report(scan, trust, tuple(made), self.weighted)


def info(scan=1, started=START):
    return ScanInfo(scan, "a label", started, started, "finished", "0.0", "1", "test", 1, {})


def profile_of(rng, taste):
    """A profile near to an operator's taste."""
    facts = dict.fromkeys(FACTS, "")
    facts["operators"] = "11 or more"
    if rng.random() < 0.12:
        stage, failure = rng.choice(LOST)
        return facts | {"status": "failed", "stage": stage, "failure": failure}
    if rng.random() < 0.03:
        return facts | {"status": "not-tested", "reason": rng.choice(["excluded", "parked"])}
    pick = lambda options, name: taste[name] if rng.random() < 0.8 else rng.choice(options)  # noqa: E731
    hierarchy, programs, owner = pick(CLASSES, "class")
    stage, failure, asked = pick(ENDS, "end")
    key_type, key_bits = pick(KEYS, "key")
    eku = pick(EKUS, "eku")
    return facts | {
        "status": "measured",
        "stage": stage,
        "failure": failure,
        "client_auth": asked,
        "tls_version": rng.choice(["TLSv1.2", "TLSv1.3", "TLSv1.3"]),
        "software": pick(SOFTWARE, "software"),
        "eku": eku,
        "exposure": exposure_of(rng, hierarchy, eku),
        "hierarchy": hierarchy,
        "programs": programs,
        "ca_owner": owner,
        "key_type": key_type,
        "key_bits": key_bits,
        "validity": pick(VALIDITIES, "validity"),
    }


def skew(rng, options):
    """The first most often."""
    return rng.choices(options, weights=[2.0**-n for n in range(len(options))])[0]


def exposure_of(rng, hierarchy, eku):
    """Of public certificates for both roles; Chrome's rule has a date for all that it trusts."""
    if eku != "server+client" or not hierarchy.startswith("public"):
        return "not-affected"
    if rng.random() < 0.1:
        return "not-valid"
    return rng.choice(
        ["2027-03", "2027-03", "2027-06"] if hierarchy == "public-chrome" else ["unknown-sunset", "2027-06"]
    )


CERTIFIED = ("eku", "hierarchy", "programs", "ca_owner", "key_type", "key_bits", "validity", "exposure")


def population(seed, *, operators=None, weighted=False, most=40, more=0):
    """Operators of very different sizes, each with its taste."""
    rng = random.Random(seed)
    many = operators or rng.choice([12, 20, 30, 45, 70])
    found = Population(weighted=weighted)
    numbers = {}
    certificates = {}
    for operator in range(many + more):
        rng = random.Random(f"{seed} {operator}")  # so that more operators change nothing of the others
        taste = {
            "class": skew(rng, CLASSES),
            "end": skew(rng, ENDS),
            "key": skew(rng, KEYS),
            "software": skew(rng, SOFTWARE),
            "eku": skew(rng, EKUS),
            "validity": skew(rng, VALIDITIES),
        }
        for host in range(min(most, int(rng.paretovariate(1.1)))):
            add_host(found, rng, numbers, certificates, operator, f"h{operator}-{host}", taste)
    hosts = list(dict.fromkeys(row["mx_host"] for row in found.endpoints))
    for place, host in enumerate(hosts):
        rng = random.Random(f"{seed} {host}")
        named = {host, hosts[rng.randrange(place + 1)]} if rng.random() < 0.2 else {host}
        weight = float(rng.randrange(20)) if weighted else 0.0
        found.domains.append((tuple(sorted(named)), weight, min(30, int(rng.paretovariate(0.9)))))
    rng = random.Random(f"{seed} domains")
    found.unrouted = {"null-mx": rng.randrange(30), "none": rng.randrange(8)}
    found.unrouted = {way: number for way, number in found.unrouted.items() if number}
    return found


def add_host(found, rng, numbers, certificates, operator, host, taste):
    for place in range(rng.choice([1, 1, 2])):
        facts = profile_of(rng, taste)
        certificate = None
        if facts["status"] == "measured":
            certificate = f"c{operator}-{rng.randrange(3)}" if rng.random() < 0.9 else f"shared-{rng.randrange(5)}"
            known = certificates.setdefault(certificate, {name: facts[name] for name in CERTIFIED})
            facts |= known
        profile = tuple(facts[name] for name in FACTS)
        number = numbers.setdefault(profile, len(numbers) + 1)
        found.profiles[number] = profile
        address = f"a{host}-{place}" if rng.random() < 0.9 else f"shared-{rng.randrange(9)}"
        found.endpoints.append(
            {
                "operator": operator,
                "mx_host": host,
                "address": address,
                "certificate": certificate,
                "profile": number,
            }
        )
