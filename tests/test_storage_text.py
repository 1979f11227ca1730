"""The one escaping of text that servers wrote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.text import escape, unescape


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("220 mx ESMTP\r\n\x1b\x7f\u20ac", "220 mx ESMTP\r\n\x1b\x7f\u20ac"),
        ("a\x00b", r"a\x00b"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), r"caf\xe9"),
        (r"C:\temp", r"C:\temp"),
        (r"a\x00b", r"a\x5cx00b"),
        (r"\xZZ \x", r"\xZZ \x"),
        ("\ud800", r"\xed\xa0\x80"),
    ],
)
def test_escape(text, stored):
    assert escape(text) == stored


@given(st.lists(st.sampled_from([b"\\", b"x", b"0", b"ff", b"\x00", b"\xff", b"\xe2\x82\xac", b"c"]) | st.binary()))
def test_every_text_that_came_from_bytes_comes_back(parts):
    text = b"".join(parts).decode("utf-8", "surrogateescape")
    stored = escape(text)
    assert "\x00" not in stored
    stored.encode()  # no lone surrogate is left
    assert unescape(stored) == text
