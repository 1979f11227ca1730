"""One Postfix with many faces: a smtpd service an address, each with options of its own in master.cf.

Needs root, as Postfix's master does. Logs go to standard output (postlogd), every service under the name of its
listener, so what a visitor did is read from there.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.mta.listener import Asks, Listener, Relay, ServerError, Visit
from lab.mta.process import directory, process, program, stop_group

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = /dev/stdout
inet_interfaces = all
inet_protocols = all
myhostname = {hostname}
mydestination =
alias_maps =
alias_database =
smtpd_peername_lookup = no
smtpd_tls_loglevel = 1
# A legacy listener exists to be measured: Debian's security level 2 would leave TLS 1.0 without a signature.
tls_medium_cipherlist = ALL:@SECLEVEL=0
# HELO restrictions run with the command, so that the name is logged though no mail follows.
smtpd_delay_reject = no
smtpd_helo_restrictions = check_helo_access static:{{INFO seen}}
smtpd_relay_restrictions = reject
notify_classes =
# Visitors are measured, not limited.
smtpd_client_event_limit_exceptions = static:all
"""

# Everything that a running Postfix looks for; smtpd services are added above it.
MASTER_CF = """\
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
"""

# Postfix requires a certificate only where it requires TLS; at level "may" it would only ask.
ASKING = {
    Asks.DEFAULT: {"smtpd_tls_security_level": "may"},
    Asks.NO: {"smtpd_tls_security_level": "may", "smtpd_tls_ask_ccert": "no"},
    Asks.ASKS: {"smtpd_tls_security_level": "may", "smtpd_tls_ask_ccert": "yes"},
    Asks.INSISTS: {"smtpd_tls_security_level": "encrypt", "smtpd_tls_req_ccert": "yes"},
}

# Mail from this machine goes to one host, whatever its certificate.
RELAY = """
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
relayhost = [{relay.address}]:{relay.port}
smtp_tls_security_level = encrypt
disable_dns_lookups = yes
smtp_host_lookup = native
"""

_LINE = re.compile(r" postfix/(?P<name>\S+)/smtpd\[(?P<pid>\d+)\]: (?P<text>.*)$", re.MULTILINE)
_HELO = re.compile(r"NOQUEUE: info: (?:EHLO|HELO) from .* helo=<([^>]*)>")


def missing() -> str | None:
    """What keeps Postfix from running here, in a few words; None if nothing does."""
    if program("postfix") is None:
        return "postfix is not installed"
    return None if os.geteuid() == 0 else "postfix needs root"


def smtpd_options(listener: Listener) -> dict[str, str]:
    """The parameters in which one smtpd differs from the rest."""
    options = {"myhostname": listener.name, "syslog_name": f"postfix/{listener.name}"}
    if not listener.credentials:
        return options | {"smtpd_tls_security_level": "none"}
    options |= ASKING[listener.asks]
    options["smtpd_tls_chain_files"] = ", ".join(f"{c.key}, {c.chain}" for c in listener.credentials)
    if listener.client_ca is not None:
        options["smtpd_tls_CAfile"] = str(listener.client_ca)
    if listener.versions:
        options["smtpd_tls_protocols"] = options["smtpd_tls_mandatory_protocols"] = ", ".join(listener.versions)
    return options


def service(listener: Listener) -> str:
    """The lines of master.cf for one listener."""
    host = f"[{listener.address}]" if ":" in listener.address else listener.address
    options = (f"  -o {{ {key} = {value} }}" for key, value in smtpd_options(listener).items())
    return "\n".join((f"{host}:{listener.port} inet n - n - - smtpd", *options, ""))


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running Postfix; `log` is the file with everything that it said."""

    log: Path

    def visits(self, listener: Listener) -> tuple[Visit, ...]:
        """Every finished connection to a listener, in the order in which they ended."""
        names: dict[str, list[str]] = {}
        visits = []
        for line in _LINE.finditer(self.log.read_text(errors="replace")):
            if line["name"] != listener.name:
                continue
            pid, text = line["pid"], line["text"]
            if text.startswith("connect from "):
                names[pid] = []
            elif helo := _HELO.match(text):
                names.setdefault(pid, []).append(helo[1])
            elif text.startswith("disconnect from "):
                visits.append(Visit(tuple(names.pop(pid, ())), " quit=1" in text))
        return tuple(visits)


@contextlib.contextmanager
def running(listeners: Sequence[Listener], settings: str = "", relay: Relay | None = None) -> Iterator[Postfix]:
    """Run one Postfix with all `listeners`; raises `ServerError` if it cannot or does not come up.

    `settings` are further lines of main.cf.
    """
    reason, postfix = missing(), program("postfix")
    if reason is not None or postfix is None:
        raise ServerError(reason or "postfix is not installed")
    with directory("postfix") as root:
        config = root / "config"
        for path in (config, root / "queue", root / "data"):
            path.mkdir()
        shutil.chown(root / "data", "postfix")
        (config / "main.cf").write_text(MAIN_CF.format(root=root, hostname=listeners[0].name) + settings)
        if relay is not None:
            with (config / "main.cf").open("a") as main:
                main.write(_relay(relay, root))
        (config / "master.cf").write_text("".join(map(service, listeners)) + MASTER_CF)
        log = root / "log"
        command = (postfix, "-c", str(config), "start-fg")
        try:
            # The master says so once every listener is bound; a connection to find out would count as a visit.
            with process("postfix", command, log, lambda: b" daemon started " in log.read_bytes()):
                yield Postfix(log)
        finally:
            _stop_master(root / "queue" / "pid" / "master.pid")


def _relay(relay: Relay, root: Path) -> str:
    """The lines of main.cf for a relay; Postfix wants the key before the certificates, in one file or two."""
    lines = RELAY.format(relay=relay)
    if relay.credential is not None:
        file = root / "client.pem"
        file.touch(mode=0o600)
        file.write_bytes(relay.credential.key.read_bytes() + relay.credential.chain.read_bytes())
        lines += f"smtp_tls_chain_files = {file}\n"
    return lines


def _stop_master(pid_file: Path) -> None:
    """End the master, which leads a session of its own whatever started it."""
    if pid_file.exists():
        stop_group(int(pid_file.read_text()))
