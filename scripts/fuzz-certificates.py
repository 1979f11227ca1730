# ruff: noqa: INP001  # a script, not a package
"""Coverage-guided fuzzing of certificate reading and path building; not part of the tests.

    pip install atheris
    python scripts/fuzz-certificates.py -max_total_time=600 CORPUS_DIRECTORY

The corpus is a directory of DER files, say the certificates of the package cryptography_vectors. Whatever raises
ends the run and leaves its input in the current directory.
"""

import sys
import warnings

import atheris

with atheris.instrument_imports(include=["scanner"]):
    from scanner.certificates import parse
    from scanner.classify import Classifier
    from scanner.trust import bundled

warnings.simplefilter("error")
SNAPSHOT = bundled()
SUBJECTS = Classifier(SNAPSHOT)
ISSUERS = Classifier(SNAPSHOT)


def one_input(data: bytes) -> None:
    """The input as a subject, as an issuer of itself, and as a list."""
    certificate = parse(data)
    if SUBJECTS.classify(certificate).sha256 != certificate.sha256:
        raise AssertionError("another certificate's classification")
    ISSUERS.chain_complete([certificate, certificate])


atheris.Setup(sys.argv, one_input)
atheris.Fuzz()
