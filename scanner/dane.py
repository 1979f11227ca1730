"""Whether what a host presents matches its TLSA records, as an SMTP sender judges it (RFC 7672, RFC 7671).

    usage 3, DANE-EE  matches the end entity certificate or its key, whatever its names and dates (RFC 7672
                      section 3.1.1)
    usage 2, DANE-TA  matches the anchor of a certification path from the end entity certificate, by certificates
                      that the host presents, all valid at the time and naming the host (section 3.1.2)
    usages 0 and 1    are unusable for SMTP (section 3.1.3)

An unknown selector or matching type is unusable too, and so is a digest of the wrong length.
Of digests of one usage and selector only the strongest counts (RFC 7671 section 9). A usage 2 record with the whole
certificate may name a trust anchor that is not presented; one with the whole key alone counts by the certificates
presented. The name is that of the TLSA base domain; the next-hop domain, which a sender accepts too, is not looked
at, since one host serves many. Pure.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from scanner import der
from scanner.certificates import name_matches, parse
from scanner.names import attribute
from scanner.paths import Pool
from scanner.policy_records import Dane, TlsaRecord, TlsaSet
from scanner.records import Certificate

DANE_TA, DANE_EE = 2, 3
FULL, SHA_256, SHA_512 = 0, 1, 2
COMMON_NAME = "2.5.4.3"

_DIGESTS: Mapping[int, tuple[int, Callable[[bytes], bytes]]] = MappingProxyType(
    {
        SHA_256: (32, lambda data: hashlib.sha256(data).digest()),
        SHA_512: (64, lambda data: hashlib.sha512(data).digest()),
    }
)
"""Matching type -> octets of the digest, and how it is made (RFC 6698 section 2.1.3)."""


def judge(tlsa: TlsaSet, certificate_list: Sequence[Certificate], at: datetime) -> tuple[Dane, TlsaRecord | None]:
    """What the records say of a certificate_list presented at the time `at`, and the record that matched.

    `certificate_list` is as presented, the end entity certificate first. DANE-EE is tried first.
    """
    if tlsa.standing is not None:
        return tlsa.standing, None
    records = strongest([record for record in tlsa.records if usable(record)])
    if not records:
        return Dane.UNUSABLE, None
    for record in sorted(records, key=lambda record: -record.usage):
        if record.usage == DANE_EE:
            matched = bool(certificate_list) and names(record, certificate_list[0])
        else:
            matched = _anchors(record, certificate_list, tlsa.base, at)
        if matched:
            return Dane.MATCH, record
    return Dane.MISMATCH, None


def usable(record: TlsaRecord) -> bool:
    """Whether an SMTP sender can use a record at all (RFC 7672 section 3.1.3)."""
    if record.usage not in (DANE_TA, DANE_EE) or record.selector not in (0, 1):
        return False
    if record.matching_type == FULL:
        return bool(record.data)
    length = _DIGESTS.get(record.matching_type, (None,))[0]
    return len(record.data) == length


def strongest(records: Sequence[TlsaRecord]) -> list[TlsaRecord]:
    """The records less the SHA-256 digests beside which there are SHA-512 ones (RFC 7671 section 9)."""
    better = {(record.usage, record.selector) for record in records if record.matching_type == SHA_512}
    return [
        record
        for record in records
        if record.matching_type != SHA_256 or (record.usage, record.selector) not in better
    ]


def names(record: TlsaRecord, certificate: Certificate) -> bool:
    """Whether a usable record stands for this certificate or its key."""
    content = certificate.der
    if record.selector == 1:
        try:
            content = der.split_certificate(certificate.der).spki
        except der.DerError:
            return False
    if record.matching_type == FULL:
        return content == record.data
    return _DIGESTS[record.matching_type][1](content) == record.data


def _anchors(record: TlsaRecord, certificate_list: Sequence[Certificate], host: str, at: datetime) -> bool:
    """Whether a DANE-TA record is the trust anchor of the list, and the list is good under it."""
    leaf, *above = certificate_list or (None,)
    if leaf is None or not _valid(leaf, at) or not _named(leaf, host):
        return False
    anchors = [certificate for certificate in above if names(record, certificate)]
    if record.selector == 0 and record.matching_type == FULL:
        anchors.append(parse(record.data))  # the record is the certificate, presented or not
    anchors = [anchor for anchor in anchors if _valid(anchor, at)]
    usable_list = [leaf, *(certificate for certificate in above if _valid(certificate, at))]
    return bool(anchors) and Pool(anchors).reaches(
        usable_list, {anchor.sha256 for anchor in anchors} - {leaf.sha256}
    )


def _valid(certificate: Certificate, at: datetime) -> bool:
    begin, end = certificate.not_before, certificate.not_after
    return begin is not None and end is not None and begin <= at <= end


def _named(certificate: Certificate, host: str) -> bool:
    """RFC 7672 section 3.2.3: dNSNames, and the common name only where there is none."""
    if certificate.dns_names:
        return name_matches(certificate.dns_names, host)
    try:
        common_name = attribute(der.split_certificate(certificate.der).subject, COMMON_NAME)
    except der.DerError:
        return False
    return common_name is not None and name_matches((common_name,), host)
