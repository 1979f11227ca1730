"""DER to a `Certificate`: what one certificate says, never what it is worth.

`parse` never raises. cryptography decides whether a certificate and its extensions can be read; the bytes as they
were signed, names and keys come from `scanner.der` and `scanner.names`, which bear what cryptography refuses or
warns about (negative serials, undecodable names, keys and algorithms that it does not know).
"""

import hashlib
import ipaddress
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import idna
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from scanner import der
from scanner.names import name_text
from scanner.records import Certificate, EkuClass

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
ANY_EKU = "2.5.29.37.0"

FAULTS = (
    ValueError,
    TypeError,  # a bit string in a name
    OverflowError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
"""All that cryptography and scanner.der raise at bytes that they do not understand."""

# Names of signature algorithms as OpenSSL and RFC 8017, 5758 and 8410 write them; others stay dotted.
_SIGNATURE_NAMES = {
    "1.2.840.113549.1.1.2": "md2WithRSAEncryption",
    "1.2.840.113549.1.1.4": "md5WithRSAEncryption",
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption",
    "1.3.14.3.2.29": "sha1WithRSA",
    "1.2.840.113549.1.1.10": "rsassaPss",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.2.840.113549.1.1.13": "sha512WithRSAEncryption",
    "1.2.840.113549.1.1.14": "sha224WithRSAEncryption",
    "1.2.840.10040.4.3": "dsa-with-SHA1",
    "2.16.840.1.101.3.4.3.1": "dsa-with-SHA224",
    "2.16.840.1.101.3.4.3.2": "dsa-with-SHA256",
    "1.2.840.10045.4.1": "ecdsa-with-SHA1",
    "1.2.840.10045.4.3.1": "ecdsa-with-SHA224",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    "1.3.101.112": "ed25519",
    "1.3.101.113": "ed448",
}

_CURVE_BITS = {
    "1.2.840.10045.3.1.1": 192,
    "1.3.132.0.33": 224,
    "1.2.840.10045.3.1.7": 256,
    "1.3.132.0.10": 256,
    "1.3.132.0.34": 384,
    "1.3.132.0.35": 521,
    "1.3.36.3.3.2.8.1.1.7": 256,
    "1.3.36.3.3.2.8.1.1.11": 384,
    "1.3.36.3.3.2.8.1.1.13": 512,
}


def parse(data: bytes) -> Certificate:
    """The facts of one certificate from its DER; unreadable ones are values (see the record)."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        loaded, parts = _load(data), der.split_certificate(data)
    except FAULTS as error:
        return Certificate(sha256=digest, der=data, readable=False, parse_error=_why(error))
    faults: list[str] = []

    def attempt(what: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except FAULTS as error:
            faults.append(f"{what}: {_why(error)}")
            return None

    subject = attempt("subject", lambda: name_text(parts.subject))
    issuer = attempt("issuer", lambda: name_text(parts.issuer))
    key = attempt("key", lambda: key_of(parts.spki)) or (None, None)
    found = _read_extensions(loaded, parts)
    return Certificate(
        sha256=digest,
        der=data,
        readable=True,
        subject=subject,
        issuer=issuer,
        serial=_serial(parts.serial),
        not_before=loaded.not_valid_before_utc,
        not_after=loaded.not_valid_after_utc,
        key_type=key[0],
        key_bits=key[1],
        spki_sha256=hashlib.sha256(parts.spki).hexdigest(),
        signature_algorithm=_SIGNATURE_NAMES.get(parts.signature_oid, parts.signature_oid),
        dns_names=found.dns_names,
        eku_oids=found.eku_oids,
        eku_class=EkuClass.UNPARSABLE if found.eku_broken else eku_class(found.eku_oids),
        is_ca=found.is_ca,
        policy_oids=found.policy_oids,
        sct_timestamps=found.sct_timestamps,
        parse_error="; ".join(faults + found.faults) or None,
    )


def eku_class(oids: Iterable[str] | None) -> EkuClass:
    """The class of a readable set of extended key usages; None means that there is no extension."""
    if oids is None:
        return EkuClass.ABSENT
    present = set(oids)
    if ANY_EKU in present:
        return EkuClass.ANY
    return {
        (True, True): EkuClass.SERVER_AND_CLIENT,
        (True, False): EkuClass.SERVER_ONLY,
        (False, True): EkuClass.CLIENT_ONLY,
        (False, False): EkuClass.NEITHER,
    }[SERVER_AUTH in present, CLIENT_AUTH in present]


def name_matches(dns_names: Sequence[str], host: str) -> bool:
    """Whether one dNSName covers a host name (RFC 9525 section 6.3; RFC 6125 for its left-most wildcard).

    A wildcard is the whole left-most label and stands for exactly one label. Case does not matter, nor a final
    dot; labels beyond ASCII are compared as A-labels. An IP address is never a dNSName.
    """
    wanted = _a_labels(host)
    if not wanted or _is_address(host):
        return False
    for name in dns_names:
        labels = _a_labels(name)
        if labels == wanted or (
            len(labels) > 1 and labels[0] == "*" and labels[1:] == wanted[1:] and len(labels) == len(wanted)
        ):
            return True
    return False


def _a_labels(name: str) -> list[str]:
    name = name.removesuffix(".").lower()
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError:
            return []
    labels = name.split(".")
    return labels if all(labels) else []


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _load(data: bytes) -> x509.Certificate:
    # cryptography warns about serials and parameters; here they are data, and a warning must not become an error.
    with warnings.catch_warnings(action="ignore"):
        return x509.load_der_x509_certificate(data)


def _why(error: Exception) -> str:
    """One short line of a library's message."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _serial(content: bytes) -> str:
    """Lower-case hex of the serial, a minus sign before a negative one (RFC 5280 section 4.1.2.2)."""
    return f"{int.from_bytes(content, 'big', signed=True):x}"


def key_of(spki: bytes) -> tuple[str, int | None]:
    """Type and size in bits of a SubjectPublicKeyInfo, without loading the key; raises DerError."""
    parts = der.children(der.only(spki, der.SEQUENCE))
    if len(parts) != 2 or parts[0].tag != der.SEQUENCE or parts[1].tag != der.BIT_STRING:
        raise der.DerError("not a SubjectPublicKeyInfo")
    algorithm = der.children(parts[0])
    oid = der.algorithm_oid(parts[0])
    if (reader := _KEYS.get(oid)) is None:
        return oid, None
    kind, bits = reader
    return kind, bits(algorithm, parts[1].content[1:])


def _rsa_bits(_algorithm: list[der.Element], key: bytes) -> int:
    return _integer_bits(der.children(der.only(key, der.SEQUENCE))[:1])


def _dsa_bits(algorithm: list[der.Element], _key: bytes) -> int | None:
    return (
        _integer_bits(der.children(algorithm[1])[:1]) if len(algorithm) > 1 else None
    )  # parameters may be inherited


def _ec_bits(algorithm: list[der.Element], key: bytes) -> int | None:
    if len(algorithm) > 1 and algorithm[1].tag == der.OID:
        return _CURVE_BITS.get(der.oid_text(algorithm[1].content))
    return (
        (len(key) - 1) // 2 * 8 if key[:1] == b"\x04" else None
    )  # explicit parameters: the field's size in octets


def _integer_bits(integers: list[der.Element]) -> int:
    if not integers or integers[0].tag != der.INTEGER:
        raise der.DerError("expected an INTEGER")
    return int.from_bytes(integers[0].content, "big").bit_length()


_KEYS: dict[str, tuple[str, Callable[[list[der.Element], bytes], int | None]]] = {
    "1.2.840.113549.1.1.1": ("rsa", _rsa_bits),
    "1.2.840.113549.1.1.10": ("rsa", _rsa_bits),  # a key for RSASSA-PSS only (RFC 4055 section 1.2)
    "1.2.840.10045.2.1": ("ec", _ec_bits),
    "1.3.101.112": ("ed25519", lambda _algorithm, _key: 256),
    "1.3.101.113": ("ed448", lambda _algorithm, _key: 456),
    "1.2.840.10040.4.1": ("dsa", _dsa_bits),
}


@dataclass(slots=True)
class _Extensions:
    """What the extensions said, while they are read."""

    dns_names: tuple[str, ...] = ()
    eku_oids: tuple[str, ...] | None = None
    eku_broken: bool = False
    is_ca: bool = False
    policy_oids: tuple[str, ...] = ()
    sct_timestamps: tuple[datetime, ...] = ()
    faults: list[str] = field(default_factory=list)


def _alternative_name(into: _Extensions, value: Any) -> None:
    into.dns_names = tuple(value.get_values_for_type(x509.DNSName))


def _usage(into: _Extensions, value: Any) -> None:
    into.eku_oids = tuple(sorted({usage.dotted_string for usage in value}))


def _basic_constraints(into: _Extensions, value: Any) -> None:
    into.is_ca = value.ca


def _policies(into: _Extensions, value: Any) -> None:
    into.policy_oids = tuple(sorted({policy.policy_identifier.dotted_string for policy in value}))


def _scts(into: _Extensions, value: Any) -> None:
    into.sct_timestamps = tuple(sorted(sct.timestamp.replace(tzinfo=UTC) for sct in value))


_READERS: dict[x509.ObjectIdentifier, Callable[[_Extensions, Any], None]] = {
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: _alternative_name,
    ExtensionOID.EXTENDED_KEY_USAGE: _usage,
    ExtensionOID.BASIC_CONSTRAINTS: _basic_constraints,
    ExtensionOID.CERTIFICATE_POLICIES: _policies,
    ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS: _scts,
}


def _read_extensions(loaded: x509.Certificate, parts: der.CertificateParts) -> _Extensions:
    into = _Extensions()
    try:
        _collect(into, loaded)
    except FAULTS:
        into = _one_by_one(parts)
    return into


def _collect(into: _Extensions, loaded: x509.Certificate) -> None:
    with warnings.catch_warnings(action="ignore"):
        for extension in loaded.extensions:
            if (reader := _READERS.get(extension.oid)) is not None:
                reader(into, extension.value)


def _one_by_one(parts: der.CertificateParts) -> _Extensions:
    """Read each extension in a copy of the certificate that has no other, as cryptography reads all or none."""
    into, seen = _Extensions(), set()
    for extension in parts.extensions:
        fault = None
        if extension.oid in seen:
            fault = "duplicate"
        else:
            try:
                _collect(into, _load(der.with_extensions(parts, (extension,))))
            except FAULTS as error:
                fault = _why(error)
        seen.add(extension.oid)
        if fault is not None:
            into.faults.append(f"extension {extension.oid}: {fault}")
            if extension.oid == ExtensionOID.EXTENDED_KEY_USAGE.dotted_string:
                into.eku_broken, into.eku_oids = True, None
    return into
