"""One Sendmail with many faces: a daemon an address, and rule sets that decide by the daemon's name.

Sendmail asks for a client certificate unless told otherwise (feature V), and has no setting that insists: the
rule set Local_tls_client refuses a client whose certificate did not verify. What such a client then meets is a
second EHLO with its 250 but hardly a keyword, and 503 5.7.0 from MAIL on. A census never says MAIL, so to it a
Sendmail that insists is one that asks: `required` cannot be seen there.
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

__all__ = ["Sendmail", "missing", "running"]

PACKAGES = ("sendmail-bin", "sendmail-cf", "m4")
MC = """\
divert(0)dnl
OSTYPE(`debian')dnl
define(`confPID_FILE', `{root}/pid')dnl
define(`QUEUE_DIR', `{root}/queue')dnl
define(`confHOST_STATUS_DIRECTORY', `')dnl
define(`confCACERT', `{root}/ca')dnl
define(`confCACERT_PATH', `{root}')dnl
define(`confSERVER_CERT', `{chain}')dnl
define(`confSERVER_KEY', `{key}')dnl
define(`confDOMAIN_NAME', `{name}')dnl
define(`confSMTP_LOGIN_MSG', `${{daemon_name}} Sendmail $v/$Z; $b')dnl
define(`confTO_IDENT', `0')dnl
define(`confDONT_PROBE_INTERFACES', `True')dnl
define(`confCIPHER_LIST', `ALL:@SECLEVEL=0')dnl
define(`_LOCAL_SRV_FEATURES_', `1')dnl
define(`_LOCAL_TLS_CLIENT_', `1')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`nocanonify')dnl
{relay}{daemons}MAILER(`smtp')dnl
LOCAL_RULESETS
SLocal_srv_features
R$*\t$: $&{{daemon_name}}
{features}R$*\t$@ OK
Stls_srv_features
R$*\t$: $&{{daemon_name}}
{sessions}R$*\t$@ ""
SLocal_tls_client
R$*\t$: $&{{daemon_name}} $| $&{{verify}}
{insisting}R$*\t$@ OK
"""
RELAY = """\
FEATURE(`accept_unresolvable_domains')dnl
define(`SMART_HOST', `relay:[{relay.address}]')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {relay.port}')dnl
"""
CLIENT = """\
define(`confCLIENT_CERT', `{chain}')dnl
define(`confCLIENT_KEY', `{key}')dnl
"""
DAEMON = "DAEMON_OPTIONS(`Family={family}, Addr={one.address}, Port={one.port}, Name={one.name}')dnl\n"
INSISTS = 'R{name} $| OK\t$@ OK\nR{name} $| $*\t$#error $@ 5.7.0 $: "503 client certificate required"\n'
ALL_VERSIONS = {"TLSv1": "1", "TLSv1.1": "1_1", "TLSv1.2": "1_2", "TLSv1.3": "1_3"}


@dataclass(frozen=True, slots=True)
class Sendmail:
    """A running Sendmail; `log` has its transcript of every session."""

    log: Path

    def visits(self, listener: Listener) -> tuple[Visit, ...]:
        """Every visit to a listener."""
        return transcript.visits(self.log.read_text(errors="replace").splitlines(), listener.name)


def configuration(root: Root, directory: Path, listeners: Sequence[Listener], relay: Relay | None = None) -> str:
    """The text of the mc file; copies credentials into the root."""
    paths = {}
    for one in listeners:
        if len(one.credentials) > 1:
            raise ServerError(f"the lab gives Sendmail one certificate a listener: {one.name}")
        if one.credentials:
            paths[one.name] = root.install(one.credentials[0], directory, one.name)
    asked = {ca for one in listeners if one.asks is not Asks.NO and (ca := one.client_ca)}
    if len(asked) > 1 or not paths:
        raise ServerError("one Sendmail has one set of CAs, and a certificate")
    # STARTTLS appears only with a file of CAs, even where no client is asked; the own list does then.
    first = listeners[0].credentials or next(one.credentials for one in listeners if one.credentials)
    shutil.copyfile(asked.pop() if asked else first[0].chain, directory / "ca")
    chain, key = next(iter(paths.values()))
    return MC.format(
        root=root.inside(directory),
        chain=chain,
        key=key,
        name=listeners[0].name,
        relay=_relay(root, directory, relay) if relay is not None else "",
        daemons="".join(
            DAEMON.format(family="inet6" if ":" in one.address else "inet", one=one) for one in listeners
        ),
        features="".join(f"R{one.name}\t$# {letters}\n" for one in listeners if (letters := _features(one))),
        sessions="".join(
            f'R{one.name}\t$@ "{_session(one, *paths[one.name])}"\n' for one in listeners if one.credentials
        ),
        insisting="".join(INSISTS.format(name=one.name) for one in listeners if one.asks is Asks.INSISTS),
    )


def _relay(root: Root, directory: Path, relay: Relay) -> str:
    lines = RELAY.format(relay=relay)
    if relay.credential is not None:
        chain, key = root.install(relay.credential, directory, "client")
        lines += CLIENT.format(chain=chain, key=key)
    return lines


def _features(listener: Listener) -> str:
    """S: no STARTTLS; V: no request for a client certificate."""
    if not listener.credentials:
        return "S"
    return "V" if listener.asks is Asks.NO else ""


def _session(listener: Listener, chain: str, key: str) -> str:
    off = [f"SSL_OP_NO_TLSv{text}" for name, text in ALL_VERSIONS.items() if name not in listener.versions]
    options = f"Options={','.join(off)}; " if listener.versions else ""
    return f"{options}CertFile={chain}; KeyFile={key}"


@contextlib.contextmanager
def running(listeners: Sequence[Listener], relay: Relay | None = None) -> Iterator[Sendmail]:
    """Run one Sendmail with all `listeners`; raises `ServerError` if it cannot or does not come up."""
    root = roots.made("sendmail", PACKAGES)
    with root.directory("sendmail") as directory:
        (directory / "queue").mkdir(mode=0o700)
        mc, cf = directory / "lab.mc", directory / "lab.cf"
        mc.write_text(configuration(root, directory, listeners, relay))
        here = "/usr/share/sendmail/cf/cf"
        root.run("sh", "-c", f"cd {here} && m4 ../m4/cf.m4 {root.inside(mc)} >{root.inside(cf)}")
        log, pid = directory / "transcript", directory / "pid"
        command = root.command("sendmail", "-bD", "-C", root.inside(cf), "-X", root.inside(log))
        with process("sendmail", command, directory / "output", pid.exists):
            yield Sendmail(log)
