"""Whether one key made the signature on a certificate: yes, no, or cannot be told.

cryptography and OpenSSL do the arithmetic. What they do not know, or what a hostile key would make dear, is
`None`: a value, never an exception.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import SignatureAlgorithmOID

PublicKey = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | dsa.DSAPublicKey
)

MOST_BITS = 16384
MOST_DSA_BITS = 4096
"""Larger keys are not tried: the time of one verification grows with the square of the size, or faster."""

MOST_EXPONENT_BITS = 64
"""OpenSSL's own limit for large moduli; with an exponent as long as the modulus verifying is as dear as signing."""


@lru_cache(maxsize=4096)
def load_key(spki: bytes) -> PublicKey | None:
    """The public key of a SubjectPublicKeyInfo's DER, or None when it cannot be used to verify.

    The keys used last are kept: a CA's verifies many certificates, and most CAs of a pool none.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, PublicKey):
        return None
    if isinstance(key, rsa.RSAPublicKey) and key.public_numbers().e.bit_length() > MOST_EXPONENT_BITS:
        return None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size > MOST_BITS:
        return None
    if isinstance(key, dsa.DSAPublicKey) and key.key_size > MOST_DSA_BITS:
        return None
    return key


def verifies(key: PublicKey | None, certificate: bytes, tbs: bytes, signature: bytes) -> bool | None:
    """Whether `key` made `signature` over `tbs`, by the algorithm that the certificate's DER names.

    None when the algorithm, its parameters or the key are not known here. RSA (PKCS #1 v1.5 and PSS), ECDSA, DSA,
    Ed25519 and Ed448, with the hashes that OpenSSL has, MD5 and SHA-1 included: what was signed is a fact, how well
    is another question.
    """
    if key is None:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            check = _checker(key, x509.load_der_x509_certificate(certificate))
            if check is None:
                return False
            check(signature, tbs)
    except InvalidSignature:
        return False
    except (ValueError, UnsupportedAlgorithm, TypeError):
        return None
    return True


def _checker(key: PublicKey, loaded: x509.Certificate) -> Callable[[bytes, bytes], Any] | None:
    """The verification for this algorithm, or None when the key is of another kind.

    Raises UnsupportedAlgorithm when the algorithm is not known.
    """
    how, digest = loaded.signature_algorithm_parameters, loaded.signature_hash_algorithm
    oid = loaded.signature_algorithm_oid
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.verify if oid == SignatureAlgorithmOID.ED25519 else None
    if isinstance(key, ed448.Ed448PublicKey):
        return key.verify if oid == SignatureAlgorithmOID.ED448 else None
    if digest is None:
        return None
    if isinstance(key, rsa.RSAPublicKey) and isinstance(how, padding.PKCS1v15 | padding.PSS):
        return lambda signature, data: key.verify(signature, data, how, digest)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(how, ec.ECDSA):
        return lambda signature, data: key.verify(signature, data, how)
    if isinstance(key, dsa.DSAPublicKey) and how is None:
        return lambda signature, data: key.verify(signature, data, digest)
    return None
