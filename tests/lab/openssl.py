"""The second opinion: what `openssl s_client -starttls smtp` shows of a host."""

import base64
import re
import subprocess
from dataclasses import dataclass

from lab.mta.process import program

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SESSION_VERSION = re.compile(r"^\s+Protocol\s*: (\S+)$", re.MULTILINE)
_NEW = re.compile(r"^(?:New|Reused), (\S+), Cipher is (\S+)$", re.MULTILINE)
_NAMES = re.compile(r"^Acceptable client certificate CA names\n((?:.+=.+\n)+)", re.MULTILINE)
_ALERT = re.compile(r"SSL alert number (\d+)")


def missing():
    return None if program("openssl") else "openssl is not installed"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one run of s_client showed; `requested` is a CertificateRequest, with or without names."""

    certificate_list: tuple[bytes, ...]
    tls_version: str | None
    cipher_suite: str | None
    requested: bool
    ca_names: tuple[str, ...]
    alert: int | None
    text: str


def s_client(address, port, host, ehlo_name="second-opinion.test", *options):
    """One connection with STARTTLS, SNI `host`, no client certificate, any version from TLS 1.0 on."""
    target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    command = [
        *("openssl", "s_client", "-connect", target, "-starttls", "smtp", "-name", ehlo_name),
        *("-servername", host, "-showcerts", "-nameopt", "RFC2253", "-min_protocol", "TLSv1"),
        *("-cipher", "ALL:@SECLEVEL=0", *options),
    ]
    # "Q" ends s_client, once the handshake is over and what the server had to say about it has arrived.
    done = subprocess.run(command, input=b"Q\n", capture_output=True, timeout=20, check=False)
    text = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    session, new, names, alert = (regex.search(text) for regex in (_SESSION_VERSION, _NEW, _NAMES, _ALERT))
    cipher = new[2] if new and new[2] != "(NONE)" else None
    return Opinion(
        certificate_list=tuple(
            base64.b64decode(body) for body in _PEM.findall(text.split("Server certificate")[0])
        ),
        # "New" names the lowest version that the suite belongs to; the session, where one is shown, the real one.
        tls_version=(session or new)[1] if cipher else None,
        cipher_suite=cipher,
        requested="Acceptable client certificate CA names" in text or "Requested Signature Algorithms" in text,
        ca_names=tuple(names[1].splitlines()) if names else (),
        alert=int(alert[1]) if alert else None,
        text=text,
    )
