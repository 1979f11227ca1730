"""Courier's SMTP server with many faces: one couriertcpd an address, each with an environment of its own.

Courier reads its settings from the environment, which is how its own start script hands them over; the rest of
Courier (queue, filters) is needed only to relay. The greeting has one host name for all listeners.
"""

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.mta import root as roots
from lab.mta import syslog
from lab.mta.exim import priority
from lab.mta.listener import Asks, Listener, Relay, ServerError, Visit
from lab.mta.process import process, wait_until
from lab.mta.root import Root, missing

__all__ = ["Courier", "missing", "running"]

PACKAGES = ("courier-mta",)
ETC = Path("etc/courier")
PACKAGED = ETC / "esmtpd"
QUEUE = ("var/lib/courier/msgs", "var/lib/courier/msgq")
ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
STOP_SECONDS = 60.0
VERIFY = {Asks.NO: "NONE", Asks.ASKS: "PEER", Asks.INSISTS: "REQUIREPEER"}
BASE = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": "/bin/sh",
    "BOFHCHECKDNS": "0",
    "TARPIT": "0",
    "ESMTP_LOG_DIALOG": "1",
}
LIMITS = ("-maxprocs=100", "-maxperc=100", "-maxperip=100")

_LINE = re.compile(r"^<\d+>\w+ +\d+ \S+ (?P<name>\S+?): (?P<text>.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Courier:
    """A running set of listeners; `log` has every command of every session."""

    log: Path
    root: Root

    def visits(self, listener: Listener) -> tuple[Visit, ...]:
        """Every visit to a listener; sessions at one listener at the same time cannot be told apart."""
        found: list[list[str]] = []
        for line in _LINE.finditer(self.log.read_text(errors="replace")):
            if line["name"] != listener.name:
                continue
            if line["text"].startswith("started,"):
                found.append([])
            elif found:
                found[-1].append(line["text"])
        return tuple(
            Visit(tuple(c.split(maxsplit=1)[1] for c in said if c.upper().startswith("EHLO ")), "QUIT" in said)
            for said in found
        )

    def submit(self, message: str) -> None:
        """Hand in a message from this machine; where it goes is in the log."""
        command = self.root.command(*ENVIRONMENT, "sendmail", "-f", "one@example.org", "two@example.com")
        subprocess.run(command, input=message, text=True, capture_output=True, timeout=60, check=False)


def environment(root: Root, directory: Path, listener: Listener) -> dict[str, str]:
    """The settings of one listener; copies credentials into the root, readable by Courier's user."""
    settings = BASE | {"SYSLOGNAME": listener.name}
    if not listener.credentials:
        return settings
    if len(listener.credentials) > 1:
        raise ServerError(f"Courier takes one certificate a listener: {listener.name}")
    credential = listener.credentials[0]
    file = directory / f"{listener.name}.pem"
    file.write_bytes(credential.key.read_bytes() + credential.chain.read_bytes())
    settings |= {
        "COURIERTLS": "/usr/bin/couriertls",
        "TLS_CERTFILE": root.inside(file),
        "TLS_VERIFYPEER": VERIFY.get(listener.asks) or _packaged(root, "TLS_VERIFYPEER"),
    }
    if listener.client_ca is not None:
        ca = directory / f"{listener.name}.ca"
        shutil.copyfile(listener.client_ca, ca)
        settings["TLS_TRUSTCERTS"] = root.inside(ca)
    if listener.versions:
        settings["TLS_PRIORITY"] = priority(listener.versions)
    return settings


def _packaged(root: Root, name: str) -> str:
    """What the package's own configuration says."""
    for line in (root.path / PACKAGED).read_text().splitlines():
        if line.startswith(f"{name}="):
            return line.partition("=")[2]
    raise ServerError(f"{PACKAGED} says nothing of {name}")


@contextlib.contextmanager
def running(listeners: Sequence[Listener], relay: Relay | None = None) -> Iterator[Courier]:
    """Run Courier's SMTP server on all `listeners`; raises `ServerError` if it cannot or does not come up."""
    root = roots.made("courier", PACKAGES)
    with root.directory("courier") as directory, contextlib.ExitStack() as stack:
        log = directory / "log"
        stack.enter_context(syslog.collecting(root.path / "dev" / "log", log))
        for listener in listeners:
            settings = (f"{key}={value}" for key, value in environment(root, directory, listener).items())
            command = root.command(
                *("env", "-i", *settings, "couriertcpd", "-user=courier", "-group=courier"),
                *(f"-address={listener.address}", "-nodnslookup", *LIMITS, str(listener.port)),
                "/usr/sbin/courieresmtpd",
            )
            output = directory / f"{listener.name}.output"
            stack.enter_context(process("couriertcpd", command, output, _listening(listener)))
        if relay is not None:
            stack.enter_context(_relaying(root, relay))
        yield Courier(log, root)


@contextlib.contextmanager
def _relaying(root: Root, relay: Relay) -> Iterator[None]:
    """Courier's queue, which reads its settings from the root's own files; they are put back at the end."""
    etc = root.path / ETC
    packaged = (etc / "courierd").read_text()
    made = {"esmtproutes": f":[{relay.address}],{relay.port}\n", "me": "relay.example.org\n"}
    settings = ""
    if relay.credential is not None:
        made["lab-client.pem"] = relay.credential.key.read_text() + relay.credential.chain.read_text()
        settings = f"\nTLS_CERTFILE=/{ETC}/lab-client.pem\n"
    for folder in QUEUE:  # mail of an earlier run would be sent in this one
        for file in (root.path / folder).rglob("*"):
            if file.is_file():
                file.unlink()
    try:
        (etc / "courierd").write_text(packaged + settings)
        for name, text in made.items():
            (etc / name).write_text(text)
            root.run("chown", "courier:courier", f"/{ETC}/{name}")
            (etc / name).chmod(0o600)
        root.run(*ENVIRONMENT, "courier", "start")
        try:
            yield
        finally:
            root.run(*ENVIRONMENT, "courier", "stop")
            wait_until(lambda: not _runs(root), "courierd ends", STOP_SECONDS)
    finally:
        (etc / "courierd").write_text(packaged)
        for name in made:
            (etc / name).unlink(missing_ok=True)


def _runs(root: Root) -> bool:
    """Whether a courierd of this root is left; it detaches itself, so nobody is its parent."""
    for link in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):
            if link.readlink() == root.path / "usr/lib/courier/courier/courierd":
                return True
    return False


def _listening(listener: Listener) -> Callable[[], bool]:
    """Whether somebody has the address: told by being refused it, since a connection would count as a visit."""

    def taken() -> bool:
        with socket.socket(socket.AF_INET6 if ":" in listener.address else socket.AF_INET) as sock:
            try:
                sock.bind((listener.address, listener.port))
            except OSError:
                return True
        return False

    return taken
