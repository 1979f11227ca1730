"""The CA certificates that CCADB lists, as a second opinion: OpenSSL's verifier has to reach the same roots.

The data is not part of the project; the tests skip where it is absent. It is looked for in the directory that
MXCENSUS_SHARED names, else in `shared` beside the repository.
"""

import os
import time
import warnings
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
from OpenSSL import crypto

from scanner.certificates import parse
from scanner.classify import Classifier
from scanner.inputs import read_certificates
from scanner.paths import Pool
from scanner.records import Hierarchy, Program
from scanner.trust import Purpose, bundled

SHARED = Path(os.environ.get("MXCENSUS_SHARED", Path(__file__).parents[2] / "shared"))
PEM = SHARED / "data" / "ccadb" / "intermediates.pem"
LEAST_PER_SECOND = 500
"""A floor that holds on a busy machine; on an idle one the rate is several times that, see benchmarks."""

pytestmark = [
    pytest.mark.skipif(not PEM.exists(), reason=f"no CCADB data at {PEM}"),
    pytest.mark.xdist_group("ccadb"),
]


@pytest.fixture(scope="module")
def sourced():
    return list(read_certificates(PEM))


@pytest.fixture(scope="module")
def subjects(sourced):
    return [parse(item.der) for item in sourced]


@pytest.fixture(scope="module")
def trust():
    return bundled()


@pytest.fixture(scope="module")
def found(trust, subjects):
    classifier = Classifier(trust, subjects)
    return {subject.sha256: classifier.classify(subject) for subject in subjects}


def test_all_are_read_and_classified(sourced, found):
    assert len(sourced) == len(found) == 5080
    assert not [c for c in found.values() if c.hierarchy in {Hierarchy.UNPARSABLE, Hierarchy.PRIVATE}]


def test_they_are_classified_fast_enough(sourced, trust):
    began = time.process_time()
    subjects = [parse(item.der) for item in sourced]
    classifier = Classifier(trust, subjects)
    for subject in subjects:
        classifier.classify(subject)
    rate = len(subjects) / (time.process_time() - began)
    assert rate > LEAST_PER_SECOND, f"{rate:.0f} certificates a second of processor time"


class OpenSsl:
    """Which roots OpenSSL accepts for a certificate: no time, no purpose, no partial chain.

    OpenSSL builds one path and does not go back. So every path is laid out for it: candidates by name, edges by
    its own verifier, and then each path whole, with nothing but that path at hand.
    """

    def __init__(self, certificates, roots):
        self.roots = roots
        self.loaded, self.issuer_name, self.by_subject = {}, {}, defaultdict(list)
        with warnings.catch_warnings(action="ignore"):  # pyOpenSSL would have us use cryptography for names
            for c in certificates:
                loaded = self.loaded[c.sha256] = crypto.load_certificate(crypto.FILETYPE_ASN1, c.der)
                self.issuer_name[c.sha256] = loaded.get_issuer().hash()
                self.by_subject[loaded.subject_name_hash()].append(c.sha256)
        self.issuers = cache(self._issuers)

    def _issuers(self, digest):
        named = self.by_subject[self.issuer_name[digest]]
        partial = crypto.X509StoreFlags.PARTIAL_CHAIN
        return [issuer for issuer in named if issuer != digest and self.verify([digest, issuer], partial)]

    def verify(self, path, flags=0):
        store = crypto.X509Store()
        store.add_cert(self.loaded[path[-1]])
        store.set_flags(NO_CHECK_TIME | flags)
        chain = [self.loaded[digest] for digest in path[1:-1]]
        try:
            crypto.X509StoreContext(store, self.loaded[path[0]], chain).verify_certificate()
        except crypto.X509StoreContextError:
            return False
        return True

    def accepted(self, digest):
        """The roots that verify, by any path."""
        accepted, waiting = set(), [[digest]]
        while waiting:
            path = waiting.pop()
            if path[-1] in self.roots and path[-1] not in accepted and self.verify(path):
                accepted.add(path[-1])
            waiting += ([*path, issuer] for issuer in self.issuers(path[-1]) if issuer not in path)
        return accepted


NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of openssl/x509_vfy.h, which pyOpenSSL does not name."""

DISAGREEMENTS = {}
"""sha256 of a certificate: why OpenSSL reaches other roots than the path builder does. None is known."""


def test_openssl_reaches_the_same_roots(trust, subjects, found):
    roots = {root.certificate.sha256: root for root in trust.roots.values()}
    everything = {c.sha256: c for c in (*subjects, *trust.intermediates, *(r.certificate for r in roots.values()))}
    openssl = OpenSsl(everything.values(), roots)
    pool = Pool([root.certificate for root in roots.values()], everything.values())
    differences, reached = {}, 0
    for subject in subjects:
        ours = {route.anchor for route in pool.find(subject).routes} - {None}
        theirs = openssl.accepted(subject.sha256)
        if ours != theirs:
            differences[subject.sha256] = (subject.subject, ours - theirs, theirs - ours)
        elif theirs:
            reached += 1
            assert set(found[subject.sha256].programs) == programs(subject, [roots[root] for root in theirs], trust)
    assert differences == DISAGREEMENTS
    assert reached > 4000


def programs(subject, roots, trust):
    """The programs that trust one of the roots for servers, by the snapshot's rows, said once more."""
    found = set()
    for root in roots:
        for program, purposes in root.purposes.items():
            limit = root.chrome_sct_not_after if program is Program.CHROME else None
            if Purpose.SERVER in purposes and (limit is None or subject.not_before <= limit):
                found.add(program)
    if subject.sha256 in trust.chrome_anchors:
        found.add(Program.CHROME)
    return found
