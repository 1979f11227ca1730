"""Every fuzz target over its corpus, over mutations of it, and over octets of hypothesis' own."""

import pytest
from fuzztargets import TARGETS, corpus
from hypothesis import example, given, settings
from hypothesis import strategies as st

EXAMPLES = 150


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_holds(name):
    inputs = corpus(name)
    assert inputs
    for data in inputs:
        TARGETS[name](data)
        TARGETS[name](data[: len(data) // 2])


def edited(data):
    """`data` with a few spans replaced: what a fuzzer does, but found again and made small by hypothesis."""
    edit = st.tuples(st.integers(0, len(data)), st.integers(0, 8), st.binary(max_size=8))

    def apply(edits):
        changed = data
        for start, length, put in edits:
            changed = changed[:start] + put + changed[start + length :]
        return changed

    return st.lists(edit, max_size=4).map(apply)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_of_the_corpus_hold(name):
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
    @given(st.one_of(*map(edited, corpus(name))))
    def holds(data):
        TARGETS[name](data)

    holds()


@pytest.mark.parametrize("name", TARGETS)
def test_any_octets_hold(name):
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
    @given(st.binary(max_size=300))
    @example(b"")
    def holds(data):
        TARGETS[name](data)

    holds()


REFUSED = {
    "a field beyond what csv takes": b'id="x"\nas_of=2026-01-01\n\n=====\n"' + b"x" * 200_000,
    "a NUL": b'id="x"\nas_of=2026-01-01\n\n=====\nsha256\0',
    "nested without end": b"a=" + b"[" * 20_000,
    "a number without end": b"a=" + b"9" * 10_000,
    "no ASCII in PEM": b'id="x"\nas_of=2026-01-01\n=====\n\n=====\n'
    b"-----BEGIN CERTIFICATE-----\n\xc2\x80\n-----END CERTIFICATE-----",
    "a time before all time": b'id="x"\nas_of="0001-01-01T00:00:00+23:00"',
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_snapshots_that_once_could_break_a_library(data):
    TARGETS["snapshots"](data)
