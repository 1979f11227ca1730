"""NIST's path validation suite (PKITS) and other vectors of cryptography_vectors, through the path builder.

PKITS judges all of RFC 5280. A census asks only for signature, name, CA:TRUE, keyCertSign, pathLen and name
constraints, so some certificates that are invalid to PKITS have a path here. Each of them is listed with the
reason; whatever is not in the list has to agree.
"""

import warnings
from collections import defaultdict
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from scanner.certificates import parse
from scanner.inputs import BadInput, read_certificates
from scanner.paths import Pool

VECTORS = Path(cryptography_vectors.__file__).parent / "x509"
PKITS = {path.stem: parse(path.read_bytes()) for path in sorted((VECTORS / "PKITS_data" / "certs").glob("*.crt"))}

A_PATH_HERE_INVALID_THERE = {
    "outside its validity; time is judged apart (`expired`)": """
        CAnotBeforeDateTest1 EEnotBeforeDateTest2 CAnotAfterDateTest5 EEnotAfterDateTest6
        pre2000UTCEEnotAfterDateTest7
    """,
    "revoked, or no usable CRL; revocation is not asked": """
        RevokedCATest2 RevokedEETest3 MissingCRLTest1 BadCRLSignatureTest4 BadCRLIssuerNameTest5 WrongCRLTest6
        UnknownCRLEntryExtensionTest8 UnknownCRLExtensionTest9 UnknownCRLExtensionTest10 OldCRLnextUpdateTest11
        pre2000CRLnextUpdateTest12 NegativeSerialNumberTest15 LongSerialNumberTest18
        SeparateCertificateandCRLKeysTest20 SeparateCertificateandCRLKeysTest21
        BasicSelfIssuedOldWithNewTest2 BasicSelfIssuedNewWithOldTest5 BasicSelfIssuedCRLSigningKeyTest7
        keyUsageCriticalcRLSignFalseTest4 keyUsageNotCriticalcRLSignFalseTest5
        distributionPointTest2 distributionPointTest3 distributionPointTest6 distributionPointTest8
        distributionPointTest9 onlyContainsUserCertsTest11 onlyContainsCACertsTest12
        onlyContainsAttributeCertsTest14 onlySomeReasonsTest15 onlySomeReasonsTest16 onlySomeReasonsTest17
        onlySomeReasonsTest20 onlySomeReasonsTest21 IDPwithindirectCRLTest23 IDPwithindirectCRLTest26
        cRLIssuerTest27 cRLIssuerTest31 cRLIssuerTest32 cRLIssuerTest34 cRLIssuerTest35
        deltaCRLIndicatorNoBaseTest1 deltaCRLTest3 deltaCRLTest4 deltaCRLTest6 deltaCRLTest9 deltaCRLTest10
    """,
    "against certificate policies, which are not asked": """
        MappingFromanyPolicyTest7 MappingToanyPolicyTest8 PolicyMappingTest2 PolicyMappingTest4 PolicyMappingTest10
        SelfIssuedinhibitAnyPolicyTest8 SelfIssuedinhibitAnyPolicyTest10 SelfIssuedinhibitPolicyMappingTest8
        SelfIssuedinhibitPolicyMappingTest9 SelfIssuedinhibitPolicyMappingTest10
        SelfIssuedinhibitPolicyMappingTest11 SelfIssuedrequireExplicitPolicyTest7
        SelfIssuedrequireExplicitPolicyTest8 inhibitAnyPolicyTest1 inhibitAnyPolicyTest4 inhibitAnyPolicyTest5
        inhibitAnyPolicyTest6 inhibitPolicyMappingTest1 inhibitPolicyMappingTest3 inhibitPolicyMappingTest5
        inhibitPolicyMappingTest6 requireExplicitPolicyTest3 requireExplicitPolicyTest5
    """,
    "an unknown critical extension; a certificate is counted, not relied on": """
        UnknownCriticalCertificateExtensionTest2
    """,
}
NO_PATH_HERE_VALID_THERE = {
    "the DSA key has its parameters from its issuer (RFC 3279 section 2.3.2); the library loads no such key": """
        DSAParameterInheritanceTest5
    """,
}


def listed(table, verdict):
    return {f"{verdict}{test}EE": reason for reason, tests in table.items() for test in tests.split()}


EXPLAINED = {**listed(A_PATH_HERE_INVALID_THERE, "Invalid"), **listed(NO_PATH_HERE_VALID_THERE, "Valid")}
SUBJECTS = sorted(test for test in PKITS if test.endswith("EE"))


@pytest.fixture(scope="module")
def pool():
    """All of the suite at once, as a census would meet it: tests must not disturb one another."""
    return Pool([PKITS["TrustAnchorRootCertificate"]], PKITS.values())


def test_the_suite_is_whole():
    assert len(SUBJECTS) == 223
    assert set(EXPLAINED) <= set(SUBJECTS)


@pytest.mark.parametrize("test", SUBJECTS)
def test_pkits(pool, test):
    """Tests that are neither Valid nor Invalid by name vary the initial policies: here a path, as none is asked."""
    expected = (not test.startswith("Invalid")) ^ (test in EXPLAINED)
    anchors = {route.anchor for route in pool.find(PKITS[test]).routes}
    assert (PKITS["TrustAnchorRootCertificate"].sha256 in anchors) is expected, EXPLAINED.get(test)


def all_vectors():
    found = {certificate.sha256: certificate for certificate in PKITS.values() if certificate.readable}
    for path in sorted(VECTORS.rglob("*")):
        if path.suffix in {".pem", ".der"}:
            try:
                parsed = [parse(item.der) for item in read_certificates(path, skipped=lambda *_: None)]
            except BadInput:
                continue  # requests, CRLs and what is broken on purpose
            found.update({certificate.sha256: certificate for certificate in parsed if certificate.readable})
    return found


def signed_by(child, issuer):
    """What the library says of one pair; None where it cannot tell."""
    try:
        child.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError):
        return False
    except (ValueError, UnsupportedAlgorithm):
        return None
    return True


def test_issuers_agree_with_the_library_over_all_vectors():
    """Every certificate with every CA certificate whose name is its issuer's: signed by it or not."""
    vectors = all_vectors()
    pool, children, edges = Pool(), defaultdict(list), 0
    authorities = [ca for ca in vectors.values() if pool.add(ca)]
    with warnings.catch_warnings(action="ignore"):
        loaded = {sha256: x509.load_der_x509_certificate(item.der) for sha256, item in vectors.items()}
        for item in vectors.values():
            children[item.issuer].append(item)
        for ca in authorities:
            for child in children[ca.subject]:
                theirs = signed_by(loaded[child.sha256], loaded[ca.sha256])
                ours = ca.sha256 in {issuer.sha256 for issuer in pool.issuers(child)}
                assert theirs in {ours, None}, (child.subject, ca.subject)
                edges += ours
    assert len(vectors) > 450
    assert edges > 300
