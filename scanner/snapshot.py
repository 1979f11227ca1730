"""Joins CCADB's reports and Chrome's store into a trust snapshot, and says how two snapshots differ; pure.

Chrome's own store says what Chrome trusts and until when; CCADB says it of the others. A root that left all
programs stays as a row without any, so that what hangs below it is `distrusted` and not `private`.
"""

import base64
import csv
import io
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from scanner.ccadb import BadReport, CaRecord, IncludedRoot
from scanner.certificates import parse
from scanner.chrome_store import ChromeStore
from scanner.records import Certificate, Program
from scanner.trust import HEADER, Purpose, Root, TrustSnapshot

MORE_COLUMNS = ("mozilla_server_distrust_after", "chrome_removed", "owner")
ANCHORS = "chrome_anchors.pem"
_SERVER = frozenset({Purpose.SERVER})


@dataclass(frozen=True, slots=True)
class Difference:
    """How one snapshot differs from another: a line of text a root, sorted by name.

    `added` and `removed` are roots that no program trusted before, or none trusts now; `changed` names the programs
    whose purposes or limits are others.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def build(
    included: Iterable[IncludedRoot],
    records: Iterable[CaRecord],
    ders: Mapping[str, bytes],
    chrome: ChromeStore,
    before: TrustSnapshot,
    as_of: date,
) -> TrustSnapshot:
    """The snapshot of these reports, without id and sources. `before` is the one in use, for what left.

    Intermediates that CCADB says can issue for TLS, and that have not expired, join the pool. Raises `BadReport`
    where the certificate of a root or a Chrome anchor is missing.
    """
    listed = {root.sha256: root for root in included}
    known = {record.sha256: record for record in records}
    roots: dict[str, Root] = {}
    for sha256 in sorted({*listed, *chrome.roots}):
        root = listed.get(sha256)
        purposes = dict.fromkeys(Program, frozenset[Purpose]()) | dict(root.purposes if root else {})
        purposes[Program.CHROME] = _SERVER if sha256 in chrome.roots else frozenset()
        if any(purposes.values()) or sha256 in ders:
            owner = root.owner if root else known[sha256].owner if sha256 in known else None
            certificate = _certificate(sha256, ders, root.name if root else "a root of Chrome's store")
            roots[sha256] = _with_history(
                Root(certificate, purposes, owner or None, chrome.roots.get(sha256)), before, as_of
            )
    for sha256, root_before in before.roots.items():
        if sha256 not in roots:
            roots[sha256] = _with_history(
                replace(root_before, purposes=dict.fromkeys(Program, frozenset()), chrome_sct_not_after=None),
                before,
                as_of,
            )
    anchors = [_certificate(sha256, ders, "an anchor of Chrome's store") for sha256 in sorted(chrome.intermediates)]
    capable = (record.sha256 for record in known.values() if record.intermediate and record.tls_capable)
    intermediates = {item.sha256: item for item in anchors}
    for sha256 in sorted(capable):
        if sha256 in ders and sha256 not in roots and sha256 not in intermediates:
            certificate = parse(ders[sha256])
            if certificate.not_after is not None and certificate.not_after.date() >= as_of:
                intermediates[sha256] = certificate
    return TrustSnapshot(
        id="",
        as_of=as_of,
        sources={},
        roots=dict(sorted(roots.items())),
        intermediates=tuple(intermediates.values()),
        chrome_anchors=frozenset(chrome.intermediates),
    )


def _certificate(sha256: str, ders: Mapping[str, bytes], name: str) -> Certificate:
    if sha256 not in ders:
        raise BadReport(f"no certificate with sha256 {sha256} ({name}) in the PEM reports; is one truncated?")
    certificate = parse(ders[sha256])
    if not certificate.readable:
        raise BadReport(f"the certificate with sha256 {sha256} ({name}) cannot be read: {certificate.parse_error}")
    return certificate


def _with_history(root: Root, before: TrustSnapshot, as_of: date) -> Root:
    """What only the snapshot in use knows: Mozilla's limit, and when Chrome removed the root."""
    was = before.roots.get(root.certificate.sha256)
    if was is None:
        return root
    gone = None
    if not root.purposes[Program.CHROME]:
        gone = was.chrome_removed or (as_of if was.purposes[Program.CHROME] else None)
    limit = was.mozilla_server_distrust_after if Purpose.SERVER in root.purposes[Program.MOZILLA] else None
    return replace(root, mozilla_server_distrust_after=limit, chrome_removed=gone)


# ------------------------------------------------------------------------------------------------- comparing


def difference(before: TrustSnapshot, after: TrustSnapshot) -> Difference:
    """What changed for whom."""
    added, removed, changed = [], [], []
    for sha256 in {**before.roots, **after.roots}:
        old, new = before.roots.get(sha256), after.roots.get(sha256)
        was, is_ = old is not None and old.trusted, new is not None and new.trusted
        if is_ and not was and new is not None:
            added.append(f"{_title(new)}: {', '.join(_trusts(new))}")
        elif was and not is_ and old is not None:
            removed.append(f"{_title(old)}: {', '.join(_trusts(old))}")
        elif old is not None and new is not None and (what := list(_changes(old, new))):
            changed.append(f"{_title(new)}: {', '.join(what)}")
    names = {item.sha256: item.subject or item.sha256 for item in (*before.intermediates, *after.intermediates)}
    added += (f"{names[sha256]}: chrome anchor" for sha256 in after.chrome_anchors - before.chrome_anchors)
    removed += (f"{names[sha256]}: chrome anchor" for sha256 in before.chrome_anchors - after.chrome_anchors)
    return Difference(tuple(sorted(added)), tuple(sorted(removed)), tuple(sorted(changed)))


def shrunk(before: TrustSnapshot, after: TrustSnapshot) -> str | None:
    """Why this looks like a report that was cut off: a program lost more than a quarter of its roots."""
    for program in Program:
        was, is_ = (
            sum(bool(root.purposes[program]) for root in snapshot.roots.values()) for snapshot in (before, after)
        )
        if is_ * 4 < was * 3:
            return f"{program} would fall from {was} roots to {is_}"
    return None


def _title(root: Root) -> str:
    return f"{root.certificate.subject or 'no subject'} [{root.certificate.sha256[:16]}]"


def _trusts(root: Root) -> Iterator[str]:
    for program, purposes in root.purposes.items():
        if purposes:
            yield f"{program} {_words(purposes)}"


def _changes(old: Root, new: Root) -> Iterator[str]:
    for program in Program:
        if old.purposes[program] != new.purposes[program]:
            was, is_ = (_words(item.purposes[program]) or "none" for item in (old, new))
            yield f"{program} {was} -> {is_}"
    if old.chrome_sct_not_after != new.chrome_sct_not_after:
        was, is_ = (_time(item.chrome_sct_not_after) or "none" for item in (old, new))
        yield f"chrome SCTNotAfter {was} -> {is_}"


def _words(purposes: Iterable[Purpose]) -> str:
    return ";".join(purpose for purpose in Purpose if purpose in purposes)


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


# --------------------------------------------------------------------------------------------------- writing


def files(snapshot: TrustSnapshot) -> dict[str, str]:
    """The files of a snapshot's directory by name, in the form that `scanner.trust.load` reads."""
    anchors = [item for item in snapshot.intermediates if item.sha256 in snapshot.chrome_anchors]
    others = [item for item in snapshot.intermediates if item.sha256 not in snapshot.chrome_anchors]
    return {
        "roots.csv": _roots_csv(snapshot.roots.values()),
        "roots.pem": _pem(root.certificate for root in snapshot.roots.values()),
        ANCHORS: _pem(anchors),
        "intermediates.pem": _pem(others),
        "snapshot.toml": _toml(snapshot),
    }


def _roots_csv(roots: Iterable[Root]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*HEADER, *MORE_COLUMNS])
    for root in roots:
        certificate = root.certificate
        days = (moment.date() if moment else "" for moment in (certificate.not_before, certificate.not_after))
        writer.writerow(
            [
                certificate.sha256,
                _plain(certificate.subject),
                *days,
                *(_words(root.purposes[program]) for program in _columns()),
                _time(root.chrome_sct_not_after),
                _time(root.mozilla_server_distrust_after),
                root.chrome_removed or "",
                _plain(root.owner),
            ]
        )
    return out.getvalue()


def _columns() -> list[Program]:
    """The programs in the order of the header."""
    return [Program(name) for name in HEADER if name in set(Program)]


def _plain(text: str | None) -> str:
    """One line of text that UTF-8 can carry."""
    return " ".join((text or "").split()).encode(errors="backslashreplace").decode()


def _pem(certificates: Iterable[Certificate]) -> str:
    lines = []
    for certificate in certificates:
        body = textwrap.fill(base64.b64encode(certificate.der).decode(), 64)
        lines.append(
            f"# sha256={certificate.sha256}\n-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"
        )
    return "".join(lines)


def _toml(snapshot: TrustSnapshot) -> str:
    sources = "".join(f"{name} = {_quoted(text)}\n" for name, text in snapshot.sources.items())
    return (
        f"id = {_quoted(snapshot.id)}\nas_of = {snapshot.as_of.isoformat()}\n"
        f"chrome_anchors = {_quoted(ANCHORS)}\n\n[sources]\n{sources}"
    )


def _quoted(text: str) -> str:
    escaped = _plain(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
