"""Whose CAs a server names when it asks for a client certificate: a set of names becomes one class. Pure.

Names are compared as RFC 4514 text without case, as they are stored; string types and escapes are gone by then.
"""

from collections.abc import Collection, Iterable, Sequence

from scanner.records import CaNames
from scanner.trust import TrustSnapshot


def public_names(snapshot: TrustSnapshot) -> frozenset[str]:
    """The subjects of the snapshot's roots that a program trusts, and of its intermediates."""
    roots = (root.certificate for root in snapshot.roots.values() if root.trusted)
    return folded(name for one in (*roots, *snapshot.intermediates) if (name := one.subject) is not None)


def folded(names: Iterable[str]) -> frozenset[str]:
    """Names as they are compared."""
    return frozenset(name.casefold() for name in names)


def ca_names_class(names: Sequence[str], own: Collection[str], public: frozenset[str]) -> CaNames:
    """The class of a CertificateRequest's names; first that holds.

    `own` are subject and issuer of every certificate that the same server presents; `public` is of `public_names`.
    """
    asked = folded(names)
    if not asked:
        return CaNames.EMPTY
    if asked <= public:
        return CaNames.PUBLIC
    if asked & public:
        return CaNames.PUBLIC_AND_OTHER
    return CaNames.OWN if asked <= folded(own) else CaNames.PRIVATE
