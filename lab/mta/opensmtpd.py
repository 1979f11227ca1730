"""One OpenSMTPD with many faces: a `listen on` line an address.

OpenSMTPD cannot ask without insisting: `Asks.ASKS` is refused here, as there is no such configuration.
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.mta import root as roots
from lab.mta import transcript
from lab.mta.listener import Asks, Listener, Relay, ServerError, Visit
from lab.mta.process import process
from lab.mta.root import Root, missing

__all__ = ["OpenSmtpd", "missing", "running"]

PACKAGES = ("opensmtpd", "ca-certificates")
TLS_OPTION = {Asks.DEFAULT: "tls", Asks.NO: "tls", Asks.INSISTS: "tls-require verify"}


@dataclass(frozen=True, slots=True)
class OpenSmtpd:
    """A running OpenSMTPD; `log` has its trace of every session."""

    log: Path

    def visits(self, listener: Listener) -> tuple[Visit, ...]:
        """Every visit to a listener."""
        return transcript.visits(self.log.read_text(errors="replace").splitlines(), listener.name)


def configuration(root: Root, directory: Path, listeners: Sequence[Listener], relay: Relay | None = None) -> str:
    """The text of smtpd.conf; copies credentials into the root."""
    head, listen = [], []
    for listener in listeners:
        if listener.asks not in TLS_OPTION or len(listener.credentials) > 1:
            raise ServerError(f"OpenSMTPD has no such mode: {listener.name}")
        options = [f"hostname {listener.name}"]
        if listener.credentials:
            chain, key = root.install(listener.credentials[0], directory, listener.name)
            head += [f'pki {listener.name} cert "{chain}"', f'pki {listener.name} key "{key}"']
            options += [TLS_OPTION[listener.asks], f"pki {listener.name}"]
            if listener.client_ca is not None:
                ca = directory / f"{listener.name}.ca"
                shutil.copyfile(listener.client_ca, ca)
                head.append(f'ca {listener.name} cert "{root.inside(ca)}"')
                options.append(f"ca {listener.name}")
            if listener.versions:
                options.append(f'protocols "{",".join(listener.versions).lower()}"')
        listen.append(f"listen on {listener.address} port {listener.port} {' '.join(options)}")
    rules = ["match from any for any reject"] if relay is None else _relay(root, directory, relay)
    return "\n".join((*head, *listen, *rules, ""))


def _relay(root: Root, directory: Path, relay: Relay) -> list[str]:
    rules, own = [], ""
    if relay.credential is not None:
        chain, key = root.install(relay.credential, directory, "client")
        rules, own = [f'pki client cert "{chain}"', f'pki client key "{key}"'], " pki client"
    url = f"smtp+tls://{relay.address}:{relay.port}"
    return [*rules, f'action "out" relay host "{url}" tls no-verify{own}', 'match from any for any action "out"']


def _empty(queue: Path) -> None:
    """Forget the mail of an earlier run, or it would be sent in this one."""
    for entry in queue.iterdir() if queue.exists() else ():
        shutil.rmtree(entry)


@contextlib.contextmanager
def running(listeners: Sequence[Listener], relay: Relay | None = None) -> Iterator[OpenSmtpd]:
    """Run one OpenSMTPD with all `listeners`; raises `ServerError` if it cannot or does not come up."""
    root = roots.made("opensmtpd", PACKAGES)
    _empty(root.path / "var" / "spool" / "smtpd" / "queue")
    with root.directory("opensmtpd") as directory:
        config, log = directory / "smtpd.conf", directory / "log"
        config.write_text(configuration(root, directory, listeners, relay))
        config.chmod(0o600)
        command = root.command("smtpd", "-d", "-v", "-T", "smtp", "-f", root.inside(config))
        with process("smtpd", command, log, lambda: b"smtp: listen on" in log.read_bytes()):
            yield OpenSmtpd(log)
