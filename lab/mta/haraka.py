"""Haraka with many faces: a process and a configuration folder an address.

Comes from npm into .lab/haraka, needs node and no root. Node's own options bound the TLS versions, as Haraka has
only a lower bound. What a certificate must be when Haraka requires one is left to its maintainers: the lab shows
who asks and who insists, and judges no client certificate by it.
"""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.mta.listener import Asks, Listener, Relay, ServerError, Visit
from lab.mta.process import directory, process, program

HOME = Path(__file__).parents[2] / ".lab" / "haraka"
SCRIPT = HOME / "node_modules" / "Haraka" / "bin" / "haraka"
MAKE_SECONDS = 300

# "false" is what an operator has to write; the default asks.
TLS_INI = {
    Asks.DEFAULT: "",
    Asks.NO: "requestCert=false\nrejectUnauthorized=false\n",
    Asks.ASKS: "requestCert=true\nrejectUnauthorized=false\n",
    Asks.INSISTS: "requestCert=true\nrejectUnauthorized=true\n",
}

_LINE = re.compile(
    r"\[PROTOCOL\] \[(?P<uuid>[0-9A-F-]+)[^\]]*\] \[core\] (?P<way>[CS]): (?P<text>.*?)(?: state=\d+)?$"
)


def missing() -> str | None:
    """What keeps Haraka from running here, in a few words; None if nothing does."""
    if program("node") is None:
        return "node is not installed"
    return None if SCRIPT.exists() or program("npm") else "npm is not installed"


def made() -> Path:
    """Haraka's script, fetched now unless it is there; raises `ServerError`."""
    if reason := missing():
        raise ServerError(reason)
    if not SCRIPT.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        command = ("npm", "install", "--no-audit", "--no-fund", "--omit=optional", "--prefix", str(HOME), "Haraka")
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_SECONDS, check=False)
        if done.returncode != 0:
            raise ServerError("npm could not install Haraka\n" + done.stderr[-2000:])
    return SCRIPT


@dataclass(frozen=True, slots=True)
class Haraka:
    """Running processes; `logs` has the log of each listener by its name."""

    logs: dict[str, Path]

    def visits(self, listener: Listener) -> tuple[Visit, ...]:
        """Every visit to a listener, in order of its first command."""
        found: dict[str, list[str]] = {}
        for line in self.logs[listener.name].read_text(errors="replace").splitlines():
            said = _LINE.search(line)
            if said and said["way"] == "C":
                found.setdefault(said["uuid"], []).append(said["text"])
        return tuple(
            Visit(tuple(c.split()[1] for c in commands if c.upper().startswith("EHLO ")), "QUIT" in commands)
            for commands in found.values()
        )


# A relay without the plugins that decide who may use one, since only the lab does.
PLUGIN = """\
exports.hook_rcpt = (next, connection) => {{ connection.relaying = true; next(OK) }}
exports.hook_get_mx = (next) => next(OK, {{ priority: 0, exchange: "{relay.address}", port: {relay.port} }})
"""


def write_configuration(folder: Path, listener: Listener, relay: Relay | None = None) -> None:
    """Fill a configuration folder for one listener."""
    config = folder / "config"
    config.mkdir(parents=True)
    # Haraka expects every section of this file to be there, as in the one that it comes with.
    shutil.copy(SCRIPT.parents[1] / "config" / "connection.ini", config)
    host = f"[{listener.address}]" if ":" in listener.address else listener.address
    files = {
        "smtp.ini": f"listen={host}:{listener.port}\nnodes=0\n",
        "me": f"{listener.name}\n",
        # With no plugin at all Haraka waits for ever; this one does nothing to a session.
        "plugins": "tls\n" if listener.credentials else "reseed_rng\n",
        "log.ini": "[main]\nlevel=protocol\n",
        "host_list": f"{listener.name}\n",
    }
    if listener.credentials:
        credential = listener.credentials[0]
        (config / "tls").mkdir()
        # Haraka would spend half a minute on a group of its own; this is RFC 7919's.
        group = ("openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048")
        files["dhparams.pem"] = subprocess.run(group, capture_output=True, text=True, check=True).stdout
        files["tls_key.pem"] = credential.key.read_text()
        files["tls_cert.pem"] = credential.chain.read_text()
        authority = f"ca={listener.client_ca}\n" if listener.client_ca else ""
        # Neither file is named: they have the names that Haraka looks for by itself. What [main] names, it would
        # also present as a client (load_plugin_tls_options in its tls_socket.js).
        files["tls.ini"] = f"[main]\n{authority}{TLS_INI[listener.asks]}"
    if relay is not None:
        files["plugins"] += "lab_relay\n"
        files["outbound.ini"] = "local_mx_ok=true\n"
        (folder / "plugins").mkdir()
        (folder / "plugins" / "lab_relay.js").write_text(PLUGIN.format(relay=relay))
        if relay.credential is not None:
            files["client_key.pem"] = relay.credential.key.read_text()
            files["client_cert.pem"] = relay.credential.chain.read_text()
            files["tls.ini"] += "[outbound]\nkey=client_key.pem\ncert=client_cert.pem\n"
    for name, text in files.items():
        (config / name).write_text(text)


def _bounds(listener: Listener) -> tuple[str, ...]:
    """Node's options for the versions of a listener; it has no upper bound below TLS 1.2."""
    if not listener.versions:
        return ()
    low, high = (version.removeprefix("TLSv") for version in (listener.versions[0], listener.versions[-1]))
    if high not in {"1.2", "1.3"}:
        raise ServerError(f"Haraka has no such mode: {listener.name}")
    return (f"--tls-min-v{low if '.' in low else low + '.0'}", f"--tls-max-v{high}")


def _listens(log: Path) -> bool:
    return "Listening on" in log.read_text(errors="replace")


@contextlib.contextmanager
def running(listeners: Sequence[Listener], relay: Relay | None = None) -> Iterator[Haraka]:
    """Run one Haraka a listener; raises `ServerError` if one cannot or does not come up."""
    script, node, logs = made(), program("node") or "node", {}
    with directory("haraka") as root, contextlib.ExitStack() as stack:
        for listener in listeners:
            folder = root / listener.name
            write_configuration(folder, listener, relay)
            log = logs[listener.name] = root / f"{listener.name}.log"
            command = (node, *_bounds(listener), str(script), "-c", str(folder))
            stack.enter_context(process("haraka", command, log, partial(_listens, log)))
        yield Haraka(logs)
