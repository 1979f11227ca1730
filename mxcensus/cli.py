"""The command line: finds the command, runs it, turns its end into an exit status.

Exit status: 0 done, 1 nothing could be measured or a release was refused, 2 bad usage or bad input (one line on
standard error), 130 interrupted. A database that fails for good ends a scan with 1: what was measured is stored.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from mxcensus import __version__, hiding
from storage.errors import StorageFailed

COMMANDS = (
    "scan",
    "plan",
    "doctor",
    "report",
    "export",
    "publish",
    "merge",
    "compare",
    "merge_scans",
    "fleet",
    "classify",
    "import_",
    "reclassify",
    "purge",
    "serve",
    "trust",
    "experiment",
    "listen",
    "demo",
)
"""The modules of `mxcensus.commands`, one a command, in the order of the help."""


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser(only: str | None = None) -> Parser:
    """The parser of all commands, or of one: the modules of the others are not imported, which takes a while."""
    parser = Parser(
        prog="mxcensus", description="Counts what mail servers present over STARTTLS, without being rude to any."
    )
    parser.add_argument("--version", action="version", version=f"mxcensus {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS if only is None else (only,):
        import_module(f"mxcensus.commands.{name}").add_parser(commands)
    return parser


def named(words: Sequence[str]) -> str | None:
    """The module of the command that the command line begins with; None where it begins with something else."""
    first = words[0].replace("-", "_") if words else ""
    return next((name for name in (first, f"{first}_") if name in COMMANDS), None)  # `import` is a word of Python's


def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    arguments = build_parser(named(words)).parse_args(words)
    if argv is None and hiding.has_password(getattr(arguments, "db", None) or ""):
        hiding.restart_without(arguments.db)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone; so that the interpreter's own flush at exit stays quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ValueError as error:
        # Every bad input of this project is a ValueError of its own with one clear line.
        if type(error).__module__ == "builtins":
            raise
        return complain(str(error))
    except (StorageFailed, ExceptionGroup) as error:
        return give_up(error)
    return status


def give_up(error: StorageFailed | ExceptionGroup[Exception]) -> int:
    """The database refused a write, perhaps to several tasks at once; anything else in a group is our own fault."""
    if isinstance(error, ExceptionGroup):
        refused, ours = error.split(StorageFailed)
        if refused is None or ours is not None:
            raise error
        return give_up(refused.exceptions[0])
    complain(str(error))
    return 1


def complain(message: str) -> int:
    """One line on standard error, whatever the message holds."""
    print(f"mxcensus: {' '.join(message.split())}", file=sys.stderr)
    return 2
