# ruff: noqa: INP001  # a script, not a package
"""Coverage-guided fuzzing of one target of `tests/fuzztargets.py` by atheris; `make fuzz` runs them all.

    python scripts/fuzz.py TARGET FINDINGS [-max_total_time=SECONDS ...]

Begins with `tests/corpus/TARGET`, which it leaves as it is. FINDINGS is a directory for inputs that reach something
new and, as `crash-...`, for the input that raised, which also ends the run. Everything after it goes to libFuzzer.
"""

import sys
import warnings
from pathlib import Path

import atheris

TESTS = Path(__file__).parent.parent / "tests"

sys.path.insert(0, str(TESTS))
with atheris.instrument_imports(include=["scanner"]):
    from fuzztargets import CORPUS, TARGETS

warnings.simplefilter("error")
name, findings, *options = sys.argv[1:]
Path(findings).mkdir(parents=True, exist_ok=True)
atheris.Setup(
    [sys.argv[0], findings, str(CORPUS / name), f"-artifact_prefix={findings}/crash-", "-timeout=20", *options],
    TARGETS[name],
)
atheris.Fuzz()
