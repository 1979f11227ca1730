"""Settings that an operator gives once instead of on every command line.

`config.toml` in the user's configuration folder; `exclude.txt` beside it holds opt-outs that every scan applies.
An option on the command line wins over the file.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import platformdirs

DEFAULT_DB = "sqlite:///census.db"
KEYS = {"ehlo_name": str, "contact": str, "resolver": list, "db": str}


class BadSettings(ValueError):
    """The settings file cannot be used; the message is one line and names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `config.toml` said; None where it said nothing. `exclude_file` is None where there is none."""

    ehlo_name: str | None = None
    contact: str | None = None
    resolver: tuple[str, ...] = ()
    db: str = DEFAULT_DB
    exclude_file: Path | None = None


def folder() -> Path:
    return platformdirs.user_config_path("mxcensus")


def load(directory: Path) -> Settings:
    """Read the settings in a folder; raises `BadSettings` for anything but known keys of the right type."""
    path = directory / "config.toml"
    values: dict[str, object] = {}
    if path.is_file():
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise BadSettings(f"{path}: {error}") from error
    for key, value in values.items():
        if key not in KEYS:
            raise BadSettings(f"{path}: unknown setting {key!r}; known are {', '.join(sorted(KEYS))}")
        if not isinstance(value, KEYS[key]):
            raise BadSettings(f"{path}: {key} must be a {KEYS[key].__name__}")
    exclude = directory / "exclude.txt"
    resolver = values.get("resolver", [])
    return Settings(
        ehlo_name=_text(values.get("ehlo_name")),
        contact=_text(values.get("contact")),
        resolver=tuple(str(item) for item in resolver) if isinstance(resolver, list) else (),
        db=_text(values.get("db")) or DEFAULT_DB,
        exclude_file=exclude if exclude.is_file() else None,
    )


def _text(value: object) -> str | None:
    return str(value) if value is not None else None
