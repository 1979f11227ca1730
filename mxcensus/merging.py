"""The composition root of `merge-scans`: the scans of all shards into one, and its classifications.

A joined scan belongs to one census: the seed, port, names per address, label and trust snapshot that its shards
share, and one scan of each shard. Joining the same scans again therefore finds the joined scan that is there.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from mxcensus import __version__, classification
from scanner import policy
from scanner.records import ScanInfo
from scanner.shards import Shard
from scanner.trust import TrustSnapshot
from storage.database import Database, open_database
from storage.joining import join, not_contacted, note_parts


class BadMerge(ValueError):
    """Scans that do not belong together; the message is one line."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A joined scan: `missing` shards, `unseen` addresses without endpoint, `work` endpoints still to contact."""

    scan: int
    shards: int
    missing: Sequence[int]
    unseen: int
    work: int
    state: str

    def as_dict(self) -> dict[str, object]:
        """The object that `merge-scans --json` prints."""
        return {
            "scan": self.scan,
            "shards": self.shards,
            "missing": list(self.missing),
            "not_contacted": self.unseen + self.work,
            "state": self.state,
        }


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    database: Database
    info: ScanInfo
    shard: Shard

    @property
    def key(self) -> tuple[object, ...]:
        return _census(self.info, self.shard.count)

    @property
    def began(self) -> str:
        return self.info.started_at.isoformat()


def merge(sources: Sequence[str], target: str, trust: TrustSnapshot) -> Joined:
    """Join the latest scan of each source (a SQLite file or a database URL) in `target`. Raises `BadMerge`."""
    with ExitStack() as stack:
        parts = [_open(source, stack) for source in sources]
        parts.sort(key=lambda part: part.shard.number)
        _check(parts, trust)
        database = open_database(target)
        stack.callback(database.close)
        scan = _joined_scan(database, parts)
        for part in parts:
            join(part.database, part.info.scan, database, scan)
        result = _note(database, scan, parts)
        classification.classify_scan(database, scan, trust)
        return result


def _open(source: str, stack: ExitStack) -> _Part:
    database = open_database(source if "://" in source else f"sqlite:///{source}", create=False)
    stack.callback(database.close)
    info = database.scan_info()
    said = info.settings.get("shard")
    if not isinstance(said, str):
        raise BadMerge(f"{database}: scan {info.scan} is no shard (scan --shard I/N makes one)")
    if info.state == "loading":
        raise BadMerge(f"{database}: scan {info.scan} was stopped while its targets were read")
    return _Part(str(database), database, info, Shard.parse(said))


def _check(parts: Sequence[_Part], trust: TrustSnapshot) -> None:
    first = parts[0]
    seen: dict[int, _Part] = {}
    for part in parts:
        if part.key != first.key:
            raise BadMerge(
                f"{part.name} is no shard of the same census as {first.name}:"
                " seed, number of shards, port, names per address, label or trust snapshot differ"
            )
        other = seen.setdefault(part.shard.number, part)
        if other.began != part.began:
            raise BadMerge(f"{part.name} and {other.name} are both shard {part.shard}")
    if first.info.trust_id != trust.id:
        raise BadMerge(f"the shards used the trust snapshot {first.info.trust_id}: name it with --trust")


def _census(info: ScanInfo, count: int) -> tuple[object, ...]:
    """What all shards of one census share."""
    settings = info.settings
    return (count, info.seed, info.trust_id, info.label, settings.get("port"), settings.get("names_per_address"))


def _joined_scan(database: Database, parts: Sequence[_Part]) -> int:
    """The joined scan that these parts belong to, or a new one."""
    first = parts[0]
    for info in reversed(database.scans()):
        shards = _shards(info)
        if shards is None or _census(info, first.shard.count) != first.key:
            continue
        same = all(_began(shards, part.shard) in {None, part.began} for part in parts)
        if same and info.settings.get("shard_count") == first.shard.count:
            return info.scan
    settings = {name: value for name, value in first.info.settings.items() if name != "shard"}
    entering = database.new_scan(
        label=first.info.label,
        started_at=first.info.started_at,
        tool_version=__version__,
        rules_version=policy.RULES_VERSION,
        trust_id=first.info.trust_id,
        seed=first.info.seed,
        settings=settings | {"shard_count": first.shard.count, "shards": {}},
    )
    return asyncio.run(entering)


def _began(shards: Mapping[str, Mapping[str, str]], shard: Shard) -> str | None:
    known = shards.get(str(shard.number))
    return None if known is None else known["started_at"]


def _shards(info: ScanInfo) -> Mapping[str, Mapping[str, str]] | None:
    """What is known of each shard of a joined scan, by its number; None of any other scan."""
    shards = info.settings.get("shards")
    return shards if isinstance(shards, dict) else None


def _note(database: Database, scan: int, parts: Sequence[_Part]) -> Joined:
    """Write down what the joined scan consists of now."""
    info = database.scan_info(scan)
    count = parts[0].shard.count
    shards = {**(_shards(info) or {}), **{str(part.shard.number): _facts(part.info) for part in parts}}
    missing = [number for number in range(1, count + 1) if str(number) not in shards]
    unseen, work = (0, 0) if missing else not_contacted(database, scan)
    finished = not missing and not unseen and all(shard["state"] == "finished" for shard in shards.values())
    ended = [datetime.fromisoformat(shard["finished_at"]) for shard in shards.values() if "finished_at" in shard]
    state = "finished" if finished else "interrupted"
    note_parts(
        database,
        scan,
        {**info.settings, "shards": dict(sorted(shards.items()))},
        started_at=min(datetime.fromisoformat(shard["started_at"]) for shard in shards.values()),
        state=state,
        finished_at=max(ended, default=None),
    )
    return Joined(scan, count, missing, unseen, work, state)


def _facts(info: ScanInfo) -> dict[str, str]:
    facts = {"started_at": info.started_at.isoformat(), "state": info.state}
    return facts if info.finished_at is None else facts | {"finished_at": info.finished_at.isoformat()}
