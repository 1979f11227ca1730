"""Keeps the database's password out of the process list, where every user of a machine can read it.

A URL with a password on the command line is what people write. The program then starts itself anew in the same
process, with the URL in its environment, which only its owner can read, and `--db env:MXCENSUS_DB` in its place.
"""

import os
import sys

VARIABLE = "MXCENSUS_DB"
PREFIX = "env:"


def has_password(url: str) -> bool:
    """Whether a database URL holds a password, in its place or in its query."""
    if not url:
        return False
    from sqlalchemy import make_url  # noqa: PLC0415  # not for commands without a database: it takes a while
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return False
    return bool(parsed.password) or any("password" in key.lower() for key in parsed.query)


def restart_without(url: str) -> None:
    """Replace this process by one whose command line has no `url`; does not return."""
    command = [word.replace(url, PREFIX + VARIABLE) for word in sys.orig_argv]
    sys.stdout.flush()
    os.execve(sys.executable, command, os.environ | {VARIABLE: url})  # noqa: S606  # ourselves, without a shell
