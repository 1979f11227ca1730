"""Turns records into rows of the tables and certificate rows back into records; pure.

Digests that stand for a set: `mx_set` of the (preference, host, notes) in order, `list_sha256` of the certificate
digests in the order presented, `ca_names_sha256` of the names' DER in the order sent.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from scanner.ledger import order_key
from scanner.policy_records import PolicyFailure, StsAnswer, StsMode, StsPolicy, TlsaRecord, TlsaSet
from scanner.records import Certificate, EkuClass, Endpoint, MailRouting, MxHost, Observation, Sighting
from storage.text import escape

Row = dict[str, Any]


# --------------------------------------------------------------------------------------------------- routing


def mx_set_digest(mx: Sequence[MxHost]) -> str | None:
    """The name of a set of MX records; None for none."""
    if not mx:
        return None
    content = json.dumps([[host.preference, host.host, list(host.notes)] for host in mx])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def domain_row(scan_id: int, routing: MailRouting, mx_set: str | None, order_key: int) -> Row:
    return {
        "scan_id": scan_id,
        "domain": routing.domain,
        "order_key": order_key,
        "routing": routing.routing.value,
        "rcode": routing.rcode,
        "authenticated": routing.authenticated,
        "mx_set": mx_set,
    }


def mx_set_rows(scan_id: int, mx_set: str, mx: Sequence[MxHost]) -> list[Row]:
    return [
        {
            "scan_id": scan_id,
            "mx_set": mx_set,
            "position": position,
            "preference": host.preference,
            "mx_host": escape(host.host),
            "notes": [note.value for note in host.notes],
        }
        for position, host in enumerate(mx)
    ]


def mx_host_row(scan_id: int, host: MxHost, operator: str) -> Row:
    return {
        "scan_id": scan_id,
        "mx_host": escape(host.host),
        "operator": escape(operator),
        "rcode_a": host.rcode_a,
        "rcode_aaaa": host.rcode_aaaa,
        "authenticated": host.authenticated,
    }


def mta_sts_row(scan_id: int, domain: str, found: StsAnswer) -> Row:
    return {
        "scan_id": scan_id,
        "domain": domain,
        "record": found.record.value,
        "rcode": found.rcode,
        "id": found.id,
        "text": _escaped(found.text),
    }


def sts_policy_row(scan_id: int, policy: StsPolicy) -> Row:
    return {
        "scan_id": scan_id,
        "domain": policy.domain,
        "fetched_at": policy.fetched_at,
        "failure": None if policy.failure is None else policy.failure.value,
        "detail": escape(policy.detail),
        "address": policy.address,
        "status": policy.status,
        "mode": None if policy.mode is None else policy.mode.value,
        "max_age": policy.max_age,
        "mx": list(policy.mx),
        "text": _escaped(policy.text),
    }


def sts_policy_of(row: Mapping[str, Any]) -> StsPolicy | None:
    """The record that `sts_policy_row` was given; None for one that was not fetched yet."""
    if row["fetched_at"] is None:
        return None
    return StsPolicy(
        domain=row["domain"],
        fetched_at=row["fetched_at"],
        failure=None if row["failure"] is None else PolicyFailure(row["failure"]),
        detail=row["detail"],
        address=row["address"],
        status=row["status"],
        mode=None if row["mode"] is None else StsMode(row["mode"]),
        max_age=row["max_age"],
        mx=tuple(row["mx"]),
        text=row["text"],
    )


def tlsa_row(scan_id: int, host: str, found: TlsaSet) -> Row:
    return {
        "scan_id": scan_id,
        "mx_host": escape(host),
        "base": escape(found.base),
        "rcode": found.rcode,
        "authenticated": found.authenticated,
        "standing": None if found.standing is None else found.standing.value,
        "records": [[r.usage, r.selector, r.matching_type, r.data.hex()] for r in found.records],
    }


def tlsa_of(row: Mapping[str, Any]) -> TlsaSet:
    """The record that `tlsa_row` was given."""
    records = tuple(TlsaRecord(u, s, m, bytes.fromhex(data)) for u, s, m, data in row["records"])
    return TlsaSet(row["base"], row["rcode"], row["authenticated"], records)


def mx_address_rows(scan_id: int, host: MxHost) -> list[Row]:
    return [
        {"scan_id": scan_id, "address": address, "mx_host": escape(host.host), "position": position}
        for position, address in enumerate(host.addresses)
    ]


# ---------------------------------------------------------------------------------------------- observations


def endpoint_key(scan_id: int, seed: int, endpoint: Endpoint) -> Row:
    return {
        "scan_id": scan_id,
        "order_key": order_key(seed, f"{endpoint.address} {endpoint.mx_host}"),
        "mx_host": escape(endpoint.mx_host),
        "address": endpoint.address,
        "port": endpoint.port,
    }


def ended_at(observation: Observation) -> datetime:
    return observation.started_at + timedelta(milliseconds=observation.duration_ms)


def observation_row(
    key: Row,
    observation: Observation,
    certificates: Sequence[str],
    ca_names: str | None,
    software: str | None,
) -> Row:
    """`key` is the endpoint's, `certificates` are the digests of the list, `ca_names` is that of the CA names."""
    return {
        **key,
        "attempt": observation.attempt,
        "last": True,
        "status": observation.status.value,
        "stage": observation.stage.value,
        "failure": None if observation.failure is None else observation.failure.value,
        "reply_code": observation.reply_code,
        "detail": escape(observation.detail),
        "greeting": _escaped(observation.greeting),
        "ehlo_greeting": _escaped(observation.ehlo_greeting),
        "ehlo_keywords": tuple([escape(keyword) for keyword in observation.ehlo_keywords]),
        "starttls_offered": observation.starttls_offered,
        "injected_plaintext": observation.injected_plaintext,
        "tls_version": observation.tls_version,
        "cipher_suite": observation.cipher_suite,
        "tls_group": observation.group,
        "list_sha256": list_digest(certificates),
        "certificate": certificates[0] if certificates else None,
        "client_auth": observation.client_auth.value,
        "ca_names_sha256": ca_names,
        "client_certificate_types": observation.client_certificate_types,
        "client_signature_algorithms": observation.client_signature_algorithms,
        "software": software,
        "started_at": observation.started_at,
        "duration_ms": observation.duration_ms,
    }


def digests(ders: Sequence[bytes]) -> list[str]:
    return [hashlib.sha256(der).hexdigest() for der in ders]


def list_digest(certificates: Sequence[str]) -> str | None:
    """The name of a certificate_list; None for an empty one."""
    return hashlib.sha256("".join(certificates).encode()).hexdigest() if certificates else None


def ca_names_digest(names: Sequence[bytes] | None) -> str | None:
    """The name of the CA names of a CertificateRequest (an empty set has one too); None where there was none."""
    return None if names is None else hashlib.sha256(b"".join(names)).hexdigest()


def ca_name_set_row(digest: str, names: Sequence[bytes], text: Callable[[bytes], str]) -> Row:
    return {"ca_names_sha256": digest, "names": [escape(text(name)) for name in names], "der": b"".join(names)}


def sighting_row(scan_id: int, sighting: Sighting) -> Row:
    listed = sighting.certificate_list
    return {
        "scan_id": scan_id,
        "number": sighting.number,
        "role": sighting.role.value,
        "sha256": listed[0] if listed else None,
        "list_sha256": list_digest(listed) if len(listed) > 1 else None,
        "count": sighting.count,
        "operator": _escaped(sighting.operator),
        "day": sighting.day,
        "required": sighting.required,
        "seen_at": sighting.seen_at,
        "prefix": sighting.prefix,
        "ehlo_name": _escaped(sighting.ehlo_name),
        "tls_version": sighting.tls_version,
        "cipher_suite": sighting.cipher_suite,
        "ended": sighting.ended,
    }


# ---------------------------------------------------------------------------------------------- certificates


def certificate_row(certificate: Certificate) -> Row:
    return {
        "sha256": certificate.sha256,
        "der": certificate.der,
        "readable": certificate.readable,
        "parse_error": _escaped(certificate.parse_error),
        "subject": _escaped(certificate.subject),
        "issuer": _escaped(certificate.issuer),
        "serial": certificate.serial,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "key_type": certificate.key_type,
        "key_bits": certificate.key_bits,
        "spki_sha256": certificate.spki_sha256,
        "signature_algorithm": certificate.signature_algorithm,
        "dns_names": [escape(name) for name in certificate.dns_names],
        "eku_oids": None if certificate.eku_oids is None else list(certificate.eku_oids),
        "eku_class": certificate.eku_class.value,
        "is_ca": certificate.is_ca,
        "policy_oids": list(certificate.policy_oids),
        "sct_timestamps": [rfc3339(at) for at in certificate.sct_timestamps],
    }


def certificate_of(row: Mapping[str, Any]) -> Certificate:
    """The record that `certificate_row` was given; its texts stay escaped."""
    names = Certificate.__dataclass_fields__
    values = {name: row[name] for name in names}
    values["eku_class"] = EkuClass(row["eku_class"])
    values["dns_names"] = tuple(row["dns_names"])
    values["policy_oids"] = tuple(row["policy_oids"])
    values["eku_oids"] = None if row["eku_oids"] is None else tuple(row["eku_oids"])
    values["sct_timestamps"] = tuple(datetime.fromisoformat(at) for at in row["sct_timestamps"])
    values["der"] = bytes(row["der"])
    return Certificate(**values)


MORE_MEANING = ("chrome_absence", "subclass", "ca_owner", "exposure", "issued_since", "expires_since", "issuer_key")
"""Fields of a classification that follow the contract's in rows `certificates` of JSON Lines."""


def certificate_fields(record: Certificate, role: str, class_now: str | None, meaning: Mapping[str, object]) -> Row:
    """One row `certificates`; `meaning` has the fields of its classification, None where it has none yet."""
    return {
        "sha256": record.sha256,
        "role": role,
        "subject": record.subject,
        "issuer": record.issuer,
        "serial": record.serial,
        "not_before": rfc3339(record.not_before) if record.not_before else None,
        "not_after": rfc3339(record.not_after) if record.not_after else None,
        "key_type": record.key_type,
        "key_bits": record.key_bits,
        "spki_sha256": record.spki_sha256,
        "signature_algorithm": record.signature_algorithm,
        "dns_names": list(record.dns_names),
        "eku_oids": None if record.eku_oids is None else list(record.eku_oids),
        "eku_class": class_now or record.eku_class.value,
        "effective_eku_class": meaning["effective_eku_class"],
        "email": record.email,
        "hierarchy": meaning["hierarchy"],
        "programs": meaning["programs"],
        "programs_unknown": meaning["programs_unknown"],
        "chrome_estimated": meaning["chrome_estimated"],
        "self_signed": meaning["self_signed"],
        "parse_error": record.parse_error,
        "der": base64.b64encode(record.der).decode(),
        **{name: meaning[name] for name in MORE_MEANING},
    }


def rfc3339(at: datetime) -> str:
    """A time as RFC 3339 text in UTC with Z; a fraction only where there is one."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _escaped(text: str | None) -> str | None:
    return None if text is None else escape(text)
