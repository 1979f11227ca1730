"""The pass after a scan: every distinct certificate and every distinct certificate_list gets its meaning.

Issuers come from everything that the scan saw, so nothing can be classified before the scan ends; and since only
stored facts and a snapshot are needed, the same pass reclassifies an old scan under new rules, and says what
changed.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from mxcensus.plan import trust_manifest
from scanner import ca_names, dane, mta_sts
from scanner.classify import Classifier
from scanner.policy import RULES_VERSION
from scanner.policy_records import DaneVerdict, StsVerdict
from scanner.records import CaNamesVerdict, Classification
from scanner.trust import TrustSnapshot
from storage import reader
from storage.classifications import Basis, programs_text, replace_classifications
from storage.database import Database

COMPARED = ("hierarchy", "programs", "eku_class", "effective_eku_class", "exposure")
"""What is compared of a certificate's classification before and after; of a list it is `chain_complete`."""

Transition = tuple[str | None, str | None]
"""From and to; None where nothing was stored."""


@dataclass(frozen=True, slots=True)
class Reclassified:
    """What one pass over one scan did.

    `before` and `after` are the rules version and the id of the snapshot. `transitions` counts certificates, and
    under `chain_complete` certificate lists, by what they were and what they are, those that stayed included.
    """

    scan: int
    certificates: int
    before: tuple[str, str | None]
    after: tuple[str, str | None]
    transitions: Mapping[str, Counter[Transition]]

    def changes(self, field: str) -> list[tuple[Transition, int]]:
        """The transitions of a field to something else, the most frequent first."""
        return [(pair, count) for pair, count in self.transitions[field].most_common() if pair[0] != pair[1]]


def classify_scan(database: Database, scan: int, snapshot: TrustSnapshot) -> Reclassified:
    """Compute and store the classifications of a scan in the place of what was there; all of it or nothing."""
    info = database.scan_info(scan)
    classifier = Classifier(snapshot, reader.ca_certificates(database, scan))
    transitions: dict[str, Counter[Transition]] = {name: Counter() for name in (*COMPARED, "chain_complete")}

    def certificates() -> Generator[Classification]:
        with closing(reader.presented_certificates(database, scan)) as presented:
            for certificate, stored in presented:
                found = classifier.classify(certificate)
                for name, now in _compared(found).items():
                    transitions[name][None if stored is None else stored[name], now] += 1
                yield found

    def lists() -> Generator[tuple[str, bool]]:
        with closing(reader.lists(database, scan)) as presented:
            for digest, listed, stored in presented:
                complete = classifier.chain_complete(listed)
                transitions["chain_complete"][_yes_no(stored), _yes_no(complete)] += 1
                yield digest, complete

    def verdicts() -> Generator[DaneVerdict]:
        with closing(reader.dane_work(database, scan)) as work:
            for host, digest, tlsa, listed, at in work:
                verdict, record = dane.judge(tlsa, listed, at)
                yield DaneVerdict(host, digest, verdict, None if record is None else record.parameters)

    def asked() -> Generator[CaNamesVerdict]:
        public = ca_names.public_names(snapshot)
        with closing(reader.asked_names(database, scan)) as work:
            for digest, names, listed, own in work:
                yield CaNamesVerdict(digest, listed, ca_names.ca_names_class(names, own, public))

    def sts() -> Generator[StsVerdict]:
        with closing(reader.sts_work(database, scan)) as work:
            for domain, record, policy, hosts in work:
                yield StsVerdict(domain, *mta_sts.judge(record, policy, hosts))

    basis = Basis(RULES_VERSION, snapshot.id, trust_manifest(snapshot))
    # also when one is left half read
    with (
        closing(certificates()) as found,
        closing(lists()) as complete,
        closing(verdicts()) as judged,
        closing(asked()) as named,
        closing(sts()) as policies,
    ):
        replace_classifications(database, scan, basis, found, complete, judged, named, policies)
    return Reclassified(
        scan=scan,
        certificates=transitions["hierarchy"].total(),
        before=(info.rules_version, info.trust_id),
        after=(basis.rules_version, basis.trust_id),
        transitions=transitions,
    )


def document(changed: Reclassified) -> dict[str, object]:
    """The object that `reclassify --json` prints for one scan."""
    return {
        "scan": changed.scan,
        "certificates": changed.certificates,
        "before": dict(zip(("rules_version", "trust"), changed.before, strict=True)),
        "after": dict(zip(("rules_version", "trust"), changed.after, strict=True)),
        "transitions": {
            name: [{"from": old, "to": new, "count": count} for (old, new), count in counted.most_common()]
            for name, counted in changed.transitions.items()
        },
    }


def lines(changed: Reclassified) -> Iterator[str]:
    """The same for people, without what stayed as it was."""
    (rules, trust), (new_rules, new_trust) = changed.before, changed.after
    yield f"scan {changed.scan}: {changed.certificates} certificates"
    yield f"  trust snapshot {trust or 'none'} -> {new_trust or 'none'}, rules {rules} -> {new_rules}"
    found = [(name, *change) for name in changed.transitions for change in changed.changes(name)]
    if not found:
        yield "  nothing changed"
    for name, (old, new), count in found:
        yield f"  {name}: {_shown(old)} -> {_shown(new)}: {count}"


def _compared(found: Classification) -> dict[str, str]:
    return {
        name: programs_text(found.programs) if name == "programs" else str(getattr(found, name))
        for name in COMPARED
    }


def _yes_no(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


def _shown(value: str | None) -> str:
    return "unclassified" if value is None else value or "none"
