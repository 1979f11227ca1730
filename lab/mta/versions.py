"""What exactly is started: the version of each server program, and the TLS library that it is linked with."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lab.mta import courier, exim, haraka, opensmtpd, sendmail
from lab.mta import root as roots
from lab.mta.listener import ServerError
from lab.mta.process import program

LIBRARIES = {"libssl.so": "OpenSSL", "libgnutls.so": "GnuTLS"}


@dataclass(frozen=True, slots=True)
class Version:
    """A program's version without its packager's suffix, and `OpenSSL` or `GnuTLS`."""

    version: str
    library: str


def _said(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def _linked(command: Sequence[str]) -> str:
    said = _said(command)
    found = [name for file, name in LIBRARIES.items() if file in said]
    if len(found) != 1:
        raise ServerError(f"{' '.join(command)}: linked with {found or 'no TLS library'}")
    return found[0]


def _postfix() -> Version:
    postconf = program("postconf") or "postconf"
    library = _said((postconf, "-h", "shlib_directory")).strip() or "/usr/lib/postfix"
    return Version(
        _said((postconf, "-d", "-h", "mail_version")).strip(), _linked(("ldd", f"{library}/libpostfix-tls.so"))
    )


def _exim() -> Version:
    command = exim.executable() or "exim4"
    return Version(_said((command, "-C", "/dev/null", "-bV")).split()[2], _linked(("ldd", command)))


def _packaged(name: str, packages: Sequence[str], linked: str) -> Version:
    root = roots.made(name, packages)
    version = _said(root.command("dpkg-query", "-W", "-f", "${Version}", packages[0]))
    upstream = version.partition(":")[2] if ":" in version else version
    return Version(upstream.rpartition("-")[0].partition("+")[0], _linked(root.command("ldd", linked)))


def _haraka() -> Version:
    package: Path = haraka.made().parents[1] / "package.json"
    said = _said((program("node") or "node", "-p", "process.versions.openssl"))
    return Version(json.loads(package.read_text())["version"], "OpenSSL" if said.strip() else "unknown")


VERSIONS: Mapping[str, Callable[[], Version]] = MappingProxyType(
    {
        "postfix": _postfix,
        "exim": _exim,
        "opensmtpd": lambda: _packaged("opensmtpd", opensmtpd.PACKAGES, "/usr/sbin/smtpd"),
        "sendmail": lambda: _packaged("sendmail", sendmail.PACKAGES, "/usr/libexec/sendmail/sendmail"),
        "courier": lambda: _packaged("courier", courier.PACKAGES, "/usr/bin/couriertls"),
        "haraka": _haraka,
    }
)
