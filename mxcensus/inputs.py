"""Files and words of the command line into what the scanner takes: targets, opt-outs, resolvers, our own name.

Everything here that cannot be used raises `BadInput` with one clear line before the first packet; a bad line of a
target file is said, counted and skipped.
"""

import gzip
import ipaddress
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from scanner.exclusions import Exclusions
from scanner.records import Target
from scanner.resolver import servers_from_system
from scanner.targets import BadLine, looks_binary, parse_domain, read_targets

LINE_BYTES = 64 * 1024
SHOWN_BAD_LINES = 10


class BadInput(ValueError):
    """An input that cannot be used; the message is one line."""


class Targets:
    """The domains of one scan, streamed: words of the command line first, then the file.

    `bad_lines` and `excluded` count what was skipped; both are right once the iteration has ended.
    """

    def __init__(self, words: Sequence[str], file: str | None, exclusions: Exclusions) -> None:
        self.bad_lines = 0
        self.excluded = 0
        self._words = [Target(parse_domain(word)) for word in words]
        self._file = file
        self._exclusions = exclusions

    def __bool__(self) -> bool:
        return bool(self._words) or self._file is not None

    def __iter__(self) -> Iterator[Target]:
        for target in chain(self._words, self._from_file()):
            if self._exclusions.domain(target.domain):
                self.excluded += 1
            else:
                yield target

    def _from_file(self) -> Iterator[Target]:
        if self._file is None:
            return
        name = "standard input" if self._file == "-" else self._file
        with _open(self._file) as stream:
            for item in read_targets(_lines(stream, name), name):
                if isinstance(item, BadLine):
                    self._say(item)
                else:
                    yield item
        if self.bad_lines > SHOWN_BAD_LINES:
            print(f"mxcensus: {name}: {self.bad_lines} bad lines skipped in all", file=sys.stderr)

    def _say(self, line: BadLine) -> None:
        self.bad_lines += 1
        if self.bad_lines <= SHOWN_BAD_LINES:
            print(f"mxcensus: {line.source}:{line.number}: skipped: {line.why}", file=sys.stderr)


@contextmanager
def _open(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as stream:
        if stream.peek(2)[:2] != b"\x1f\x8b":
            yield stream
            return
        try:
            with gzip.GzipFile(fileobj=stream) as unzipped:
                yield unzipped  # type: ignore[misc]  # readline and read of a binary file are all that is used
        except (gzip.BadGzipFile, EOFError) as error:
            raise BadInput(f"{file}: broken gzip file: {error}") from error


def _lines(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Lines of bounded length; raises `BadInput` for a file that is empty or no text."""
    first = stream.readline(LINE_BYTES)
    if not first:
        raise BadInput(f"{name}: empty, no domain in it")
    if looks_binary(first):
        raise BadInput(f"{name}: not a text file")
    yield first
    while line := stream.readline(LINE_BYTES):
        yield line


def read_exclusions(files: Sequence[Path]) -> Exclusions:
    """All opt-outs together; one that cannot be read is an error, never ignored."""
    merged = Exclusions.parse((), "")
    for file in files:
        with file.open(encoding="utf-8", errors="surrogateescape") as lines:
            merged |= Exclusions.parse(lines, str(file))
    return merged


def resolvers(words: Sequence[str]) -> Sequence[tuple[str, int]]:
    """`HOST[:PORT]`, `[IPv6]:PORT` or a bare IPv6 address; the system's own where none is named."""
    if not words:
        return servers_from_system()
    return [_resolver(word) for word in words]


def _resolver(word: str) -> tuple[str, int]:
    host, separator, port = word.rpartition(":")
    if not separator or (":" in host and not host.startswith("[")):
        host, port = word, "53"
    host = host.strip("[]")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadInput(f"--resolver {word}: {port!r} is no port")
    try:
        return str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0][4][0]), int(port)
    except (OSError, UnicodeError) as error:
        raise BadInput(f"--resolver {word}: not an address, and the name does not resolve") from error


def listening_address(word: str | None, option: str) -> tuple[str, int] | None:
    """`PORT`, `HOST:PORT` or `[IPv6]:PORT`, where this machine is to listen; loopback unless a host is named."""
    if word is None:
        return None
    host, separator, port = word.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise BadInput(f"{option} {word}: not HOST:PORT")
    return (host.strip("[]") if separator and host else "127.0.0.1"), int(port)


def ehlo_name(word: str | None) -> str | None:
    """The name to greet with, as A-labels; it has to be a name that others can look up."""
    if word is None:
        return None
    try:
        name = parse_domain(word)
    except ValueError as error:
        raise BadInput(f"--ehlo-name: {error}") from error
    if "." not in name:
        raise BadInput(f"--ehlo-name {word}: not a fully qualified domain name")
    return name


def default_ehlo_name() -> str:
    """For a scan of a few domains: this machine's name if it has a full one, else an address literal.

    RFC 5321 section 4.1.3 lets a client without a name give an address literal.
    """
    name = socket.gethostname().lower().rstrip(".")
    return name if "." in name else "[127.0.0.1]"
