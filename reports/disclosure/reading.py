"""A release.json back into a record: a file from somebody else, so nothing in it is trusted unchecked."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from reports.definitions import Definition, Unit
from reports.disclosure.release import (
    FORMAT_VERSION,
    KIND,
    Method,
    Release,
    ReleasedFigure,
    ReleasedRow,
    Source,
)
from reports.disclosure.rules import Rules

_T = TypeVar("_T")

LONGEST = 50_000_000
"""Bytes of a release that are read."""


class BadReleaseError(ValueError):
    """Not a release, or one that cannot be read; one line for the user."""


def parse(text: str, name: str) -> Release:
    """Read a release. Raises `BadReleaseError`, which names the file."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise BadReleaseError(f"{name}: not JSON") from None
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise BadReleaseError(f"{name}: not a release of mxcensus (its release.json is wanted)")
    if values.get("format_version") != FORMAT_VERSION:
        raise BadReleaseError(f"{name}: format version {values.get('format_version')!r} is not {FORMAT_VERSION}")
    try:
        return _release(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise BadReleaseError(f"{name}: not as the schema says: {what}") from None


def _release(values: Mapping[str, Any]) -> Release:
    source, method, trust = values["source"], values["method"], values["source"]["trust"]
    return Release(
        Source(
            _of(values["tool"]["version"], str),
            _of(source["rules_version"], str),
            _of(source["disclosure_version"], str),
            _of(source["role"], str),
            _of(source["started_at"], str),
            _or_none(source["finished_at"], str),
            _or_none(trust["id"], str),
            _or_none(trust["as_of"], str),
            _of(source["population"], str),
        ),
        Method(
            Rules(
                _count(method["min_count"]),
                float(method["dominance"]),
                float(method["p"]),
                float(method["interval"]),
            ),
            _count(method["round_to"]),
            tuple(_of(digest, str) for digest in method["previous"]),
        ),
        tuple(_figure(figure) for figure in values["figures"]),
        tuple((_of(one["id"], str), Unit(one["unit"]), _of(one["reason"], str)) for one in values["withheld"]),
    )


def _figure(values: Mapping[str, Any]) -> ReleasedFigure:
    keys = tuple(_of(key, str) for key in values["keys"])
    unit = Unit(values["unit"])
    texts = [_of(values[name], str) for name in ("id", "title", "numerator", "denominator", "caveat", "question")]
    name, title, numerator, denominator, caveat, question = texts
    coverage = values["coverage"]
    definition = Definition(name, title, (unit,), keys, numerator, denominator, caveat, question)
    rows = []
    for row in values["rows"]:
        key = tuple(_of(row["key"][field], str) for field in keys)
        rows.append(ReleasedRow(key, _or_none_count(row["count"]), _share(row["share"])))
    if len({row.key for row in rows}) < len(rows):
        raise ValueError(f"figure {name} has a row twice")
    missing = {_of(reason, str): _or_none_count(count) for reason, count in coverage["not_measured"].items()}
    return ReleasedFigure(
        definition,
        unit,
        _of(coverage["kind"], str),
        _or_none_count(coverage["attempted"]),
        _or_none_count(coverage["measured"]),
        missing,
        tuple(rows),
        tuple(_of(name, str) for name in values["not_measurable"]),
    )


def _of(value: object, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"{str(value)[:40]!r} is no {kind.__name__}")
    return value


def _or_none(value: object, kind: type[_T]) -> _T | None:
    return None if value is None else _of(value, kind)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{str(value)[:40]!r} is no count")
    return value


def _or_none_count(value: object) -> int | None:
    return None if value is None else _count(value)


def _share(value: object) -> float | None:
    return None if value is None else float(_of(value, float) if isinstance(value, float) else _count(value))
