"""Reads releases that are out already."""

import hashlib
from pathlib import Path

from reports.disclosure import reading
from reports.disclosure.release import Earlier


def read(path: Path) -> Earlier:
    """A release.json, or the one in a directory, with its digest. Raises `BadReleaseError` and OSError."""
    file = path / "release.json" if path.is_dir() else path
    with file.open("rb") as stream:
        data = stream.read(reading.LONGEST + 1)
    if len(data) > reading.LONGEST:
        raise reading.BadReleaseError(f"{file}: longer than any release")
    return Earlier(reading.parse(data.decode("utf-8", "replace"), str(file)), hashlib.sha256(data).hexdigest())
