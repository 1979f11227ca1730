"""The lab's hosts with DANE: which TLSA records each publishes, and what a sender with DANE makes of it.

Records name what the host presents, known only once it has its certificate; `lab.publish` writes them then.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lab.hosts import KINDS, Kind
from lab.issue import Leaf

Entry = tuple[int, int, int, str]
"""Usage, selector, matching type, and what it names: the `own` certificate, the `issuer` or the `last` of the list,
the `root` above it though not presented, `other`: nothing of this host."""


@dataclass(frozen=True, slots=True)
class Dane:
    """One host with DANE. `dane` and `record` are fields of its endpoint's row.

    `fails`: the lookup is SERVFAIL. `unsigned`: the answer is not authenticated. `alias`: the MX host is an alias,
    and the records are at the name that it stands for.
    """

    dane: str
    records: tuple[Entry, ...] = ()
    record: str | None = None
    kind: Kind = KINDS["good"]
    fails: bool = False
    unsigned: bool = False
    alias: bool = False


DANE: Mapping[str, Dane] = {
    "ee": Dane("match", ((3, 1, 1, "own"),), "3 1 1"),
    "ee-self-signed": Dane("match", ((3, 0, 2, "own"),), "3 0 2", Kind(leaf=Leaf("server+client", "self"))),
    "ee-full": Dane("match", ((3, 1, 0, "own"), (3, 1, 1, "other")), "3 1 0"),
    "ee-expired-wrong-name": Dane(
        "match", ((3, 1, 1, "own"),), "3 1 1", Kind(leaf=Leaf(expired=True, named="other"))
    ),
    "ee-next-key": Dane("match", ((3, 1, 1, "other"), (3, 1, 1, "own")), "3 1 1"),
    "ee-private": Dane(
        "match", ((3, 1, 1, "own"),), "3 1 1", Kind(leaf=Leaf("server-only", "private", "with-root"))
    ),
    "ta-issuer": Dane("match", ((2, 1, 1, "issuer"),), "2 1 1"),
    "ta-private-root": Dane(
        "match", ((2, 0, 1, "last"),), "2 0 1", Kind(leaf=Leaf("server+client", "private", "with-root"))
    ),
    "ta-whole-root": Dane("match", ((2, 0, 0, "root"),), "2 0 0"),
    "ta-hidden-root": Dane("mismatch", ((2, 0, 1, "root"),)),
    "ta-of-itself": Dane("mismatch", ((2, 0, 1, "own"),)),
    "ta-wrong-name": Dane("mismatch", ((2, 1, 1, "issuer"),), kind=Kind(leaf=Leaf(named="other"))),
    "ta-common-name": Dane("match", ((2, 1, 1, "issuer"),), "2 1 1", Kind(leaf=Leaf(named="common-name"))),
    "ta-expired": Dane("mismatch", ((2, 1, 1, "issuer"),), kind=Kind(leaf=Leaf(expired=True))),
    "mismatch": Dane("mismatch", ((3, 1, 1, "other"), (2, 1, 1, "other"))),
    "stronger-digest": Dane("mismatch", ((3, 1, 1, "own"), (3, 1, 2, "other"))),
    "usage-one": Dane("unusable", ((1, 1, 1, "own"), (0, 0, 1, "issuer"))),
    "unknown-type": Dane("unusable", ((3, 1, 9, "own"), (3, 7, 1, "own"))),
    "bogus": Dane("error", ((3, 1, 1, "own"),), fails=True),
    "delegated": Dane("insecure", ((3, 1, 1, "own"),), unsigned=True),
    "aliased": Dane("match", ((3, 1, 1, "own"),), "3 1 1", alias=True),
    "absent": Dane("none"),
}
