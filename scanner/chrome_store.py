"""Reads Chromium's `root_store.textproto`: which certificates Chrome anchors TLS on, and until which SCT.

protobuf reads the text. The message types are Chromium's `net/cert/root_store.proto`, declared here as a table,
since no generated module comes with it. A field that this table does not know is an error, never skipped: it could
be a limit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_Field = descriptor_pb2.FieldDescriptorProto
_INT32, _INT64, _UINT64 = _Field.TYPE_INT32, _Field.TYPE_INT64, _Field.TYPE_UINT64
_BOOL, _TEXT, _BYTES = _Field.TYPE_BOOL, _Field.TYPE_STRING, _Field.TYPE_BYTES

_PACKAGE = "chrome_root_store"
_MESSAGES: Mapping[str, tuple[tuple[str, int, Any, bool], ...]] = {
    "ConstraintSet": (
        ("sct_not_after_sec", 1, _INT64, False),
        ("sct_all_after_sec", 2, _INT64, False),
        ("min_version", 3, _TEXT, False),
        ("max_version_exclusive", 4, _TEXT, False),
        ("permitted_dns_names", 5, _TEXT, True),
        ("index_not_after", 8, _UINT64, False),
        ("index_after", 9, _UINT64, False),
        ("validity_starts_not_after_sec", 10, _INT64, False),
        ("validity_starts_after_sec", 11, _INT64, False),
    ),
    "TrustAnchor": (
        ("der", 1, _BYTES, False),
        ("sha256_hex", 2, _TEXT, False),
        ("ev_policy_oids", 3, _TEXT, True),
        ("constraints", 4, "ConstraintSet", True),
        ("display_name", 5, _TEXT, False),
        ("eutl", 6, _BOOL, False),
        ("enforce_anchor_expiry", 8, _BOOL, False),
        ("enforce_anchor_constraints", 9, _BOOL, False),
        ("tls_trust_anchor", 10, _BOOL, False),
        ("trust_anchor_id", 11, _BYTES, False),
        ("crs_root_id", 12, _INT32, False),
    ),
    "MtcAnchor": (
        ("log_id", 1, _BYTES, False),
        ("constraints", 2, "ConstraintSet", True),
        ("tls_trust_anchor", 3, _BOOL, False),
        ("crs_root_id", 4, _INT32, False),
    ),
    "RootStore": (
        ("trust_anchors", 1, "TrustAnchor", True),
        ("version_major", 2, _INT64, False),
        ("additional_certs", 3, "TrustAnchor", True),
        ("mtc_anchors", 4, "MtcAnchor", True),
    ),
}
"""Message -> its fields: name, number, type or the message that it is, repeated."""


class BadRootStore(ValueError):
    """A text that is no root store; the message is one line."""


@dataclass(frozen=True, slots=True)
class ChromeStore:
    """A Chrome Root Store: certificates by sha256 with the time after which an SCT is too late, None for no limit.

    `roots` are its trust anchors, `intermediates` the further certificates that it anchors TLS on directly.
    """

    version: int
    roots: Mapping[str, datetime | None]
    intermediates: Mapping[str, datetime | None]


def read(text: str, source: str) -> ChromeStore:
    """The store in a textproto; raises `BadRootStore`."""
    store: Any = _root_store()()
    try:
        text_format.Parse(text, store)
    except text_format.ParseError as error:
        raise BadRootStore(f"{source}: not a root store that is known here: line {_one_line(error)}") from error
    if not store.version_major or not store.trust_anchors:
        raise BadRootStore(f"{source}: no version_major or no trust_anchors in it; a truncated file?")
    return ChromeStore(
        version=store.version_major,
        roots=_anchors(store.trust_anchors, source),
        intermediates=_anchors((item for item in store.additional_certs if item.tls_trust_anchor), source),
    )


def _anchors(listed: Iterable[Any], source: str) -> dict[str, datetime | None]:
    found: dict[str, datetime | None] = {}
    for anchor in listed:
        sha256 = anchor.sha256_hex.lower()
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise BadRootStore(f"{source}: sha256_hex is 64 hex digits, found {anchor.sha256_hex[:80]!r}")
        if sha256 in found:
            raise BadRootStore(f"{source}: {sha256} stands twice")
        # Of alternative sets one has to hold; those for versions below some other are about older browsers.
        sets = [each for each in anchor.constraints if not each.HasField("max_version_exclusive")]
        if sets or not anchor.constraints:
            found[sha256] = _latest(sets)
    return found


def _latest(sets: Iterable[Any]) -> datetime | None:
    """The latest time that any of the sets still allows; None where one of them has no end."""
    ends = []
    for each in sets:
        own = [
            getattr(each, name)
            for name in ("sct_not_after_sec", "validity_starts_not_after_sec")
            if each.HasField(name)
        ]
        if not own:
            return None
        ends.append(min(own))
    return datetime.fromtimestamp(max(ends), UTC) if ends else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@cache
def _root_store() -> Any:
    """The message class of a whole store."""
    file = descriptor_pb2.FileDescriptorProto(name="root_store.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = message.field.add(name=field, number=number)
            added.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if isinstance(kind, str):
                added.type, added.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.RootStore"))
