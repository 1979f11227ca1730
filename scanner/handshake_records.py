"""The certificate_list in the records of a handshake that is not encrypted (TLS 1.0 to 1.2), without I/O.

OpenSSL ends a handshake at the first certificate that it cannot read and shows nothing of the list. The server did
present it, so it is read from what passed by. TLS 1.3 encrypts the list; see docs/decisions/0021.
"""

MAX_KEPT = 128 * 1024
"""How much of a handshake is worth keeping: OpenSSL reads certificate messages of up to 100 KB."""

_HANDSHAKE = 22  # RFC 5246 section 6.2.1
_CERTIFICATE = 11  # RFC 5246 section 7.4


def certificates_in(records: bytes | bytearray) -> tuple[bytes, ...]:
    """The certificates of the first Certificate message, as sent; empty where there is no whole and sound one."""
    messages = _handshake_messages(bytes(records))
    position = 0
    while position + 4 <= len(messages):
        end = position + 4 + int.from_bytes(messages[position + 1 : position + 4])
        if messages[position] == _CERTIFICATE:
            return _vector(messages[position + 4 : end]) if end <= len(messages) else ()
        position = end
    return ()


def _handshake_messages(records: bytes) -> bytes:
    """The payload of the leading handshake records, joined: a message may be cut anywhere by the record layer."""
    joined = bytearray()
    position = 0
    while position + 5 <= len(records) and records[position] == _HANDSHAKE:
        end = position + 5 + int.from_bytes(records[position + 3 : position + 5])
        joined += records[position + 5 : end]
        position = end
    return bytes(joined)


def _vector(body: bytes) -> tuple[bytes, ...]:
    """`opaque ASN.1Cert<1..2^24-1>` entries of `certificate_list<0..2^24-1>` (RFC 5246 section 7.4.2)."""
    if len(body) != 3 + int.from_bytes(body[:3]):
        return ()
    certificates = []
    position = 3
    while position < len(body):
        end = position + 3 + int.from_bytes(body[position : position + 3])
        if end > len(body) or end == position + 3:
            return ()
        certificates.append(body[position + 3 : end])
        position = end
    return tuple(certificates)
