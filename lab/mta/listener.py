"""What one address of a real mail server is told to do, and what the server saw there."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Asks(StrEnum):
    """What a server wants of the client's certificate."""

    DEFAULT = "default"  # nothing is configured about it: what the software, or else its package, comes with
    NO = "no"
    ASKS = "asks"
    INSISTS = "insists"


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate_list with its key.

    `chain` is the PEM file to present, in order, `key` the PEM file of the end entity's key, `certificate_list`
    the DER of what is in `chain`.
    """

    chain: Path
    key: Path
    certificate_list: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Listener:
    """One address of a server.

    `name` is the host name in greeting and configuration, and unique within a server. Without `credentials`
    there is no STARTTLS; with two of different key types both are configured. `versions` are IANA's names,
    empty for what the software does by default. `client_ca` is the PEM file of the CAs that a client
    certificate is verified against, whose subjects the server may send.
    """

    name: str
    address: str
    port: int
    credentials: tuple[Credential, ...] = ()
    asks: Asks = Asks.NO
    versions: tuple[str, ...] = ()
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Relay:
    """Where a server is to send all mail that it is given, over STARTTLS, and what it is told to present there."""

    address: str
    port: int
    credential: Credential | None = None  # None: nothing is configured about it


@dataclass(frozen=True, slots=True)
class Visit:
    """One finished connection as the server logged it: the names of its EHLOs, and whether it ended by QUIT."""

    ehlo_names: tuple[str, ...]
    quit: bool


class ServerError(Exception):
    """A server program is missing, or did not start; the text has the end of its log."""
