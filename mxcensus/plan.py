"""Everything about a scan that is decided before it begins."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from scanner.exclusions import Exclusions
from scanner.records import Hierarchy
from scanner.scan import ScanSettings
from scanner.trust import TrustSnapshot


class BadPlan(ValueError):
    """A scan that must not or cannot begin; the message is one line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about a scan that is decided before it begins."""

    database: str
    trust: TrustSnapshot
    label: str | None
    resolvers: Sequence[tuple[str, int]]
    exclusions: Exclusions
    ehlo_name: str | None
    contact: str | None
    allow_special_purpose: bool
    timeout: float
    resume: bool
    verbose: bool
    scan: ScanSettings
    mta_sts: bool = False
    mta_sts_port: int = 443
    connection_log: Path | None = None
    metrics: tuple[str, int] | None = None
    exclude_files: Sequence[Path] = ()
    both_key_types: bool = False
    given: frozenset[str] = frozenset()
    """Limits, `timeout`, `exclude` and `mta_sts_port` where the command line named them; a resumed scan keeps the
    others."""

    def manifest(self, source_addresses: Sequence[str] = ()) -> dict[str, object]:
        """What is stored with the scan: settings, their digest, where it ran from; no secret.

        The digest leaves out what may differ between machines and passes of one census.
        """
        settings = self._settings()
        return {
            "trust": trust_manifest(self.trust),
            "shard": None if self.scan.shard is None else str(self.scan.shard),
            "source_addresses": list(source_addresses),
            "exclude_files": [str(path.absolute()) for path in self.exclude_files],
            **settings,
            "settings_sha256": sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        }

    def _settings(self) -> dict[str, object]:
        return {
            "port": self.scan.port,
            "names_per_address": self.scan.names_per_address,
            "sample": self.scan.sample,
            "limits": asdict(self.scan.limits),
            "timeout": self.timeout,
            "resolvers": [f"{host}:{port}" for host, port in self.resolvers],
            "ehlo_name": self.ehlo_name,
            "contact": self.contact,
            "allow_special_purpose": self.allow_special_purpose,
            "both_key_types": self.both_key_types,
            "mta_sts": self.mta_sts,
            "mta_sts_port": self.mta_sts_port,
        }


def trust_manifest(snapshot: TrustSnapshot) -> dict[str, object]:
    """What a report says of the snapshot that a scan was classified under."""
    return {
        "as_of": snapshot.as_of.isoformat(),
        "not_measurable": sorted(set(Hierarchy) - snapshot.measurable),
    }
