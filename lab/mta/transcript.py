"""Reads visits out of a server's transcript: what went in (`<<<`) and out (`>>>`), a line each, with a key."""

import re
from collections.abc import Iterable

from lab.mta.listener import Visit

_LINE = re.compile(r"(?:smtp: )?(?P<key>\S+) (?P<way><<<|>>>) (?P<text>.*)")


def visits(lines: Iterable[str], name: str) -> tuple[Visit, ...]:
    """Every visit to the listener that greets as `name`, in order of greeting; the last may still be going on.

    A key (process or session) is used again; a greeting begins a new visit under it. The 220 to STARTTLS is no
    greeting, since it does not begin with a host name of ours.
    """
    found: list[list[str]] = []
    current: dict[str, list[str] | None] = {}
    for line in lines:
        match = _LINE.fullmatch(line.rstrip("\r\n"))
        if match is None:
            continue
        key, way, text = match.groups()
        if way == ">>>" and text.startswith("220 ") and not text.startswith("220 2.0.0 "):
            commands: list[str] = []
            current[key] = commands if text.split()[1] == name else None
            if current[key] is not None:
                found.append(commands)
        elif way == "<<<" and (commands_of := current.get(key)) is not None:
            commands_of.append(text)
    return tuple(map(_visit, found))


def _visit(commands: list[str]) -> Visit:
    hellos = (command.split(maxsplit=1) for command in commands)
    names = (words[1] for words in hellos if len(words) == 2 and words[0].upper() in {"EHLO", "HELO"})
    return Visit(tuple(names), any(command.upper() == "QUIT" for command in commands))
