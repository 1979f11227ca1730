"""Divides the addresses of a census among scans on several machines; pure.

Every shard resolves every domain, so that routing is whole in each and the names of an address are drawn among all
that lead to it. What is divided is sessions: an address belongs to one shard, whatever the seed, and so do its
intervals and its parking.
"""

import hashlib
from dataclasses import dataclass
from typing import Self


class BadShard(ValueError):
    """A shard that cannot be read; the message is one line."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number` of `count`, counted from 1."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise BadShard(f"shard {self}: use I/N with I from 1 to N")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `I/N`; raises `BadShard`."""
        number, slash, count = text.partition("/")
        if not (slash and _is_number(number) and _is_number(count)):
            raise BadShard(f"shard {text!r}: use I/N with I from 1 to N")
        return cls(int(number), int(count))

    def holds(self, address: str) -> bool:
        """Whether an address (its canonical text, as routing gives it) belongs to this shard."""
        digest = hashlib.blake2b(address.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1

    def share(self, limit: int) -> int:
        """The part of a bound that one of `count` shards keeps, rounded down, at least 1."""
        return max(1, limit // self.count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 8
