"""What was seen of each software, and what follows from it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CONTROL = "none"
VERSIONS = ("TLSv1.2", "TLSv1.3")

YES, NO, DIFFERS, UNSEEN = "yes", "no", "differs", "not-seen"
NOTHING, CLIENT, SERVER, OTHER = "nothing", "client", "server", "other"


@dataclass(frozen=True, slots=True)
class Cell:
    """One session with one client certificate: `mode` as configured, `variant` the label of the certificate.

    `said` is what ended a session that was not accepted: `alert 116`, `closed`, `421 4.7.1`. `keywords` are those
    of the second EHLO.
    """

    mode: str
    tls_version: str
    variant: str
    client_auth: str
    accepted: bool
    said: str = ""
    keywords: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was seen of one software. What it presents as a client is `nothing`, `client`, `server` or `other`.

    `server_kept` tells whether it went on to present the server's certificate as a server when it was told to
    present another as a client.
    """

    software: str
    version: str
    library: str
    cells: tuple[Cell, ...]
    presents_by_default: str = UNSEEN
    presents_when_told: str = UNSEEN
    server_kept: bool | None = None

    def control(self, mode: str) -> Sequence[Cell]:
        """The sessions without a certificate in a mode, one a TLS version."""
        return [cell for cell in self.cells if cell.mode == mode and cell.variant == CONTROL]

    @property
    def asks_by_default(self) -> str:
        return _agreed(cell.client_auth != "not-requested" for cell in self.control("default"))

    @property
    def can_ask(self) -> str:
        return (
            _agreed(cell.client_auth == "requested" for cell in self.control("asks"))
            if self.control("asks")
            else NO
        )

    @property
    def can_require(self) -> str:
        """Whether a client without a certificate is refused, or (Sendmail) let in with less than others get."""
        return _agreed(not cell.accepted or self._gated(cell) for cell in self.control("insists"))

    def takes(self, variant: str, mode: str = "insists") -> str:
        """Whether a session with this certificate gets all that the mode has to give."""
        return _agreed(
            cell.accepted and not self._gated(cell)
            for cell in self.cells
            if cell.mode == mode and cell.variant == variant
        )

    @property
    def rejects_server_only(self) -> str:
        """Whether a certificate for servers only is refused where one for both roles is taken."""
        own, both = self.takes("server-only"), self.takes("both")
        if both != YES:
            return UNSEEN
        return {YES: NO, NO: YES}.get(own, own)

    @property
    def separates_roles(self) -> str:
        """Whether it presented one certificate as a server and, at the same time, the other as a client."""
        if self.presents_when_told == UNSEEN or self.server_kept is None:
            return UNSEEN
        return YES if self.presents_when_told == CLIENT and self.server_kept else NO

    def refusals(self, variant: str, mode: str = "insists") -> Sequence[str]:
        """What sessions with this certificate ended in, by TLS version; "" for an accepted one."""
        found = {cell.tls_version: cell for cell in self.cells if cell.mode == mode and cell.variant == variant}
        return [found[version].said for version in VERSIONS if version in found]

    def more_keywords(self, variant: str, mode: str) -> str:
        """Whether the server says that it found a certificate good, by more keywords than without one."""
        controls = {cell.tls_version: cell.keywords for cell in self.control(mode)}
        found = [cell for cell in self.cells if cell.mode == mode and cell.variant == variant]
        return _agreed(cell.accepted and cell.keywords > controls[cell.tls_version] for cell in found)

    def _gated(self, cell: Cell) -> bool:
        """Whether a mode that requires lets a client say EHLO, but tells it less than a mode that only asks."""
        asking = [one for one in self.control("asks") if one.tls_version == cell.tls_version]
        return cell.mode == "insists" and cell.accepted and any(one.keywords > cell.keywords for one in asking)


def _agreed(facts: Iterable[bool]) -> str:
    found = set(facts)
    if not found:
        return UNSEEN
    return DIFFERS if len(found) > 1 else (YES if found == {True} else NO)
