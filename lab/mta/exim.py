"""One Exim with many faces: its options are expanded for every connection, so files keyed by address decide.

Runs the Exim that scripts/lab-packages.sh unpacked under .lab/exim (Debian's, linked with GnuTLS), or else the
one that is installed. Needs root: Exim trusts a configuration that root owns, and root only may name another.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.mta.listener import Asks, Credential, Listener, Relay, ServerError, Visit
from lab.mta.process import directory, process, program

UNPACKED = Path(__file__).parents[2] / ".lab" / "exim" / "usr" / "sbin" / "exim4"
USER = "Debian-exim"

CONFIG = """\
primary_hostname = exim.invalid
exim_path = {exim}
spool_directory = {root}/spool
log_file_path = {root}/log/%slog
pid_file_path = {root}/exim.pid
log_selector = +pid +smtp_connection +smtp_no_mail +incoming_interface +tls_peerdn
keep_environment =
local_interfaces = <; {interfaces}
daemon_smtp_ports = {port}
smtp_active_hostname = ${{lookup{{$received_ip_address}}lsearch{{{root}/names}}}}
smtp_banner = $smtp_active_hostname ESMTP Exim $version_number
smtp_accept_max = 0
smtp_accept_queue = 0
rfc1413_query_timeout = 0s
tls_advertise_hosts = <; {tls}
{verifying}tls_certificate = ${{lookup{{$received_ip_address}}lsearch{{{root}/chains}}}}
tls_privatekey = ${{lookup{{$received_ip_address}}lsearch{{{root}/keys}}}}
tls_verify_certificates = ${{lookup{{$received_ip_address}}lsearch{{{root}/cas}}{{$value}}{{system}}}}
tls_require_ciphers = ${{lookup{{$received_ip_address}}lsearch{{{root}/priorities}}{{$value}}{{NORMAL}}}}
acl_smtp_helo = seen
acl_smtp_rcpt = deny

begin acl
seen:
  accept logwrite = EHLO <$sender_helo_name>
deny:
  deny
"""
VERIFYING = """\
tls_try_verify_hosts = <; {asks}
tls_verify_hosts = <; {insists}
"""
RELAY = """
begin routers
out:
  driver = manualroute
  domains = *
  route_list = * {relay.address}::{relay.port} byname
  self = send
  transport = out

begin transports
out:
  driver = smtp
  hosts_require_tls = *
  tls_try_verify_hosts =
{certificate}"""

# A host list is matched against the client, so the address that it came to is asked for inside an expansion.
TO_ONE_OF = "${{if inlisti{{$received_ip_address}}{{<; {addresses}}}{{*}}}}"

GNUTLS_VERSIONS = {"TLSv1": "TLS1.0", "TLSv1.1": "TLS1.1", "TLSv1.2": "TLS1.2", "TLSv1.3": "TLS1.3"}

_LINE = re.compile(r"^\S+ \S+ \[(?P<pid>\d+)\] (?P<text>.*)$", re.MULTILINE)
_EHLO = re.compile(r"EHLO <(.*)>")
_ENDED = re.compile(r"no MAIL in SMTP connection from .* I=\[(?P<address>[^\]]*)\]:\d+ .* C=(?P<commands>\S*)")


def executable() -> str | None:
    """The Exim to run: the unpacked one first."""
    return str(UNPACKED) if UNPACKED.exists() else program("exim4")


def missing() -> str | None:
    """What keeps Exim from running here, in a few words; None if nothing does."""
    if executable() is None:
        return "exim4 is not there"
    return None if os.geteuid() == 0 else "exim4 needs root"


def configuration(root: Path, listeners: Sequence[Listener], relay: Relay | None = None) -> str:
    """The text of exim.conf; one port for all listeners."""
    ports = {listener.port for listener in listeners}
    if len(ports) != 1:
        raise ServerError("the listeners of one Exim share one port")

    def reached(chosen: Callable[[Listener], bool]) -> str:
        addresses = [listener.address for listener in listeners if chosen(listener)]
        return TO_ONE_OF.format(addresses=" ; ".join(addresses)) if addresses else ""

    verifying = VERIFYING.format(
        asks=reached(lambda one: one.asks is Asks.ASKS),
        insists=reached(lambda one: one.asks is Asks.INSISTS),
    )
    untouched = all(listener.asks is Asks.DEFAULT for listener in listeners)
    return CONFIG.format(
        root=root,
        exim=executable(),
        port=ports.pop(),
        interfaces=" ; ".join(listener.address for listener in listeners),
        tls=reached(lambda one: bool(one.credentials)),
        verifying="" if untouched else verifying,
    ) + (_relay(root, relay) if relay is not None else "")


def _relay(root: Path, relay: Relay) -> str:
    certificate = ""
    if relay.credential is not None:
        chain = _copy(relay.credential.chain, root / "client.chain")
        key = _copy(relay.credential.key, root / "client.key")
        certificate = f"  tls_certificate = {chain}\n  tls_privatekey = {key}\n"
    return RELAY.format(relay=relay, certificate=certificate)


def priority(versions: Sequence[str]) -> str:
    """A GnuTLS priority string that allows these versions only."""
    return "NORMAL:-VERS-ALL" + "".join(f":+VERS-{GNUTLS_VERSIONS[version]}" for version in versions)


def tables(root: Path, listeners: Sequence[Listener]) -> dict[str, dict[str, str]]:
    """File name -> address -> value: what the expansions look up. Copies credentials to where Exim may read."""
    chains, keys, cas = {}, {}, {}
    for listener in listeners:
        if listener.credentials:
            own = [_own(root, listener, number, c) for number, c in enumerate(listener.credentials)]
            chains[listener.address] = " : ".join(chain for chain, _ in own)
            keys[listener.address] = " : ".join(key for _, key in own)
        if listener.client_ca is not None:
            cas[listener.address] = _copy(listener.client_ca, root / f"{listener.name}.ca")
    return {
        "names": {one.address: one.name for one in listeners},
        "chains": chains,
        "keys": keys,
        "cas": cas,
        "priorities": {one.address: priority(one.versions) for one in listeners if one.versions},
    }


def _own(root: Path, listener: Listener, number: int, credential: Credential) -> tuple[str, str]:
    stem = f"{listener.name}-{number}"
    return _copy(credential.chain, root / f"{stem}.chain"), _copy(credential.key, root / f"{stem}.key")


def _copy(source: Path, target: Path) -> str:
    shutil.copyfile(source, target)
    target.chmod(0o600)
    shutil.chown(target, USER, USER)
    return str(target)


@dataclass(frozen=True, slots=True)
class Exim:
    """A running Exim; `log` is its main log, `command` what runs it once more with the same configuration."""

    log: Path
    command: tuple[str, ...]

    def visits(self, listener: Listener) -> tuple[Visit, ...]:
        """Every finished connection to a listener, in the order in which they ended."""
        names: dict[str, list[str]] = {}
        visits = []
        for line in _LINE.finditer(self.log.read_text(errors="replace")):
            if ehlo := _EHLO.fullmatch(line["text"]):
                names.setdefault(line["pid"], []).append(ehlo[1])
            elif ended := _ENDED.match(line["text"]):
                said = tuple(names.pop(line["pid"], ()))
                if ended["address"] == listener.address:
                    visits.append(Visit(said, ended["commands"].endswith("QUIT")))
        return tuple(visits)

    def submit(self, message: str) -> None:
        """Hand in a message from this machine and try to deliver it at once; where it goes is in the log."""
        command = (*self.command, "-odf", "-i", "-f", "one@example.org", "two@example.com")
        subprocess.run(command, input=message, text=True, capture_output=True, timeout=60, check=False)


@contextlib.contextmanager
def running(listeners: Sequence[Listener], relay: Relay | None = None) -> Iterator[Exim]:
    """Run one Exim with all `listeners`; raises `ServerError` if it cannot or does not come up."""
    reason, exim = missing(), executable()
    if reason is not None or exim is None:
        raise ServerError(reason or "exim4 is not there")
    with directory("exim") as root:
        for path in (root / "spool", root / "log"):
            path.mkdir()
            shutil.chown(path, USER, USER)
        config = root / "exim.conf"
        config.write_text(configuration(root, listeners, relay))
        config.chmod(0o644)
        for name, table in tables(root, listeners).items():
            (root / name).write_text("".join(f'"{address}": {value}\n' for address, value in table.items()))
        log, main = root / "output", root / "log" / "mainlog"
        # Ubuntu's GnuTLS refuses TLS 1.0 by a file for the whole system; a legacy listener exists to be measured.
        command = ("env", "GNUTLS_SYSTEM_PRIORITY_FILE=/dev/null", exim, "-C", str(config))
        # Logged once every listener is bound; a connection to find out would count as a visit.
        with process("exim", (*command, "-bdf"), log, lambda: main.exists() and b"exim " in main.read_bytes()):
            yield Exim(main, command)
