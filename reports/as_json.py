"""A report as JSON, in the contract's form; shares unrounded."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from reports.amounts import CONFIDENCE, AtLeast, bounds_of
from reports.figures import FORMAT_VERSION, Coverage, Figure, Part, Report, Row, SampleInfo
from reports.headlines import headlines
from scanner.records import PolicyRule, ScanInfo

TOOL = "mxcensus"


def document(report: Report) -> dict[str, object]:
    """The report as JSON values."""
    return {
        "format_version": FORMAT_VERSION,
        "tool": {
            "name": TOOL,
            "version": report.scan.tool_version,
            "rules_version": report.scan.rules_version,
        },
        "scan": scan_document(report.scan),
        "trust": {
            "id": report.trust.id,
            "as_of": report.trust.as_of,
            "not_measurable": list(report.trust.not_measurable),
        },
        "clients_scan": report.clients,
        "headlines": [asdict(headline) for headline in headlines(report)],
        **({} if report.sample is None else {"sample": sample_document(report.sample)}),
        "figures": [figure_document(figure) for figure in report.figures],
    }


def render(report: Report) -> str:
    """The report as JSON text, ASCII only, with a final newline."""
    return json.dumps(document(report), indent=1, allow_nan=False) + "\n"


def scan_document(scan: ScanInfo) -> dict[str, object]:
    """The manifest of the scan."""
    return {
        "id": scan.scan,
        "label": scan.label,
        "state": scan.state,
        "started_at": time_text(scan.started_at),
        "finished_at": None if scan.finished_at is None else time_text(scan.finished_at),
        "seed": scan.seed,
        "settings": dict(scan.settings),
    }


def sample_document(sample: SampleInfo) -> dict[str, object]:
    """The sample that a report tells from."""
    return {
        "addresses": sample.drawn,
        "of": sample.of,
        "strata": [asdict(stratum) for stratum in sample.strata],
        "confidence": CONFIDENCE,
        "method": sample.method,
    }


def figure_document(figure: Figure) -> dict[str, object]:
    """One figure in one unit; the extras after `rows` only where they apply."""
    definition = figure.definition
    values: dict[str, object] = {
        "id": figure.id,
        "title": figure.wording.title,
        "role": figure.role.value,
        "unit": str(figure.unit),
        "keys": list(definition.keys),
        "coverage": coverage_document(figure.coverage),
        "rows": [_row(figure, row) for row in figure.rows],
        "question": definition.question,
        "numerator": figure.wording.numerator,
        "denominator": figure.wording.denominator,
        "caveat": figure.wording.caveat,
    }
    if figure.private_share is not None:
        share = figure.private_share
        values["private_share"] = {"low": _part(share.low), "high": _part(share.high)}
    if "hierarchy" in definition.keys:
        values["not_measurable"] = list(figure.not_measurable)
    if figure.rules:
        values["rules"] = [_rule(rule) for rule in figure.rules]
    if figure.without_top_10 is not None:
        measured, rows = figure.without_top_10
        values["without_top_10"] = {"measured": measured, "rows": [_row(figure, row) for row in rows]}
    return values


def coverage_document(coverage: Coverage) -> dict[str, object]:
    """attempted, measured and the reasons of the rest."""
    return {
        "attempted": coverage.attempted,
        "measured": coverage.measured,
        "not_measured": dict(coverage.not_measured),
        **told({"measured": coverage.measured, **coverage.not_measured}),
    }


def told(numbers: Mapping[str, float | None]) -> dict[str, object]:
    """What has to stand beside numbers that a sample tells: the interval of each, or that it is a lower bound."""
    intervals = {name: list(bounds) for name, value in numbers.items() if (bounds := bounds_of(value)) is not None}
    least = [name for name, value in numbers.items() if isinstance(value, AtLeast)]
    return {**({"interval": intervals} if intervals else {}), **({"lower_bound": least} if least else {})}


def time_text(time: datetime) -> str:
    """RFC 3339 in UTC with Z."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _row(figure: Figure, row: Row) -> dict[str, object]:
    key = dict(zip(figure.definition.keys, row.key, strict=True))
    beside = told({"count": row.count, "any": row.any, "share": row.share})
    return {"key": key, "count": row.count, "any": row.any, "share": row.share, **beside}


def _rule(rule: PolicyRule) -> dict[str, object]:
    return {**asdict(rule), "date": rule.date.isoformat()}


def _part(part: Part) -> dict[str, object]:
    return {"count": part.count, "share": part.share, **told({"count": part.count, "share": part.share})}
