"""Lines into targets: names, ranks, weights, and a clear reason for every line that is none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.records import Target
from scanner.targets import MAX_LINE, BadLine, BadTarget, looks_binary, parse_domain, read_targets


def read(text):
    octets = text if isinstance(text, bytes) else text.encode()
    return list(read_targets(octets.splitlines(keepends=True), "list.csv"))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("example.org", Target("example.org")),
        ("  EXAMPLE.Org.  \r\n", Target("example.org")),
        ('"example.org"', Target("example.org")),
        ("1,example.org", Target("example.org", rank=1)),
        ('"7","example.org"', Target("example.org", rank=7)),
        ("0 , example.org", Target("example.org", rank=0)),
        ("example.org,1500", Target("example.org", weight=1500)),
        ("example.org,0", Target("example.org", weight=0)),
        ("example.org,0.25", Target("example.org", weight=0.25)),
        ("example.org,1e3", Target("example.org", weight=1000)),
        ("example.org # the example", Target("example.org")),
        ("example.org,5\t# five", Target("example.org", weight=5)),
        ("com", Target("com")),
        ("1.example", Target("1.example")),
        ("xn--bcher-kva.example", Target("xn--bcher-kva.example")),
        ("xn--i-7iq.ws", Target("xn--i-7iq.ws")),  # an emoji: no IDNA2008, and registered
        ("r3---sn.example", Target("r3---sn.example")),
        ("Bücher.example", Target("xn--bcher-kva.example")),
        ("bücher。example", Target("xn--bcher-kva.example")),
        ("faß.example", Target("xn--fa-hia.example")),  # non-transitional
        ("\uff45\uff58ample.org", Target("example.org")),
        ("пример.рф.", Target("xn--e1afmkfd.xn--p1ai")),
    ],
)
def test_a_line_is_a_target(text, target):
    assert read(text) == [target]


@pytest.mark.parametrize(
    ("text", "kind"), [("example.org,3", int), ("example.org,3.0", int), ("example.org,3.5", float)]
)
def test_an_integral_weight_stays_an_integer(text, kind):
    (target,) = read(text)
    assert type(target.weight) is kind


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("192.0.2.1", "an IP address"),
        ("192.0.2.0/24", "an IP address"),
        ("2001:db8::1", "an IP address"),
        ("[2001:db8::1]", "an IP address"),
        ("https://example.org/", "a URL"),
        ("example.org/path", "a URL"),
        ("user@example.org", "an e-mail address"),
        ("example.org:25", "with a port"),
        ("example.org mx.example.org", "white space"),
        ("exa\tmple.org", "white space"),
        ("exam\x07ple.org", "control characters"),
        ("exam\x00ple.org", "control characters"),
        ("exam\x85ple.org", "control characters"),
        (b"b\xfccher.example", "not UTF-8"),
        ("a..org", "an empty label"),
        (".example.org", "an empty label"),
        ("example.org..", "an empty label"),
        (".", "no name"),
        (",5", "no name"),
        ("-a.org", "hyphen"),
        ("a-.org", "hyphen"),
        ("_dmarc.example.org", "'_' cannot be part"),
        ("*.example.org", "'*' cannot be part"),
        ("exam#ple.org", "'#' cannot be part"),
        ("a" * 64 + ".org", "longer than 63"),
        (".".join(["a" * 60] * 5), "longer than 253"),
        ("ü" * 300, "longer than 253"),
        (".".join(["ü" * 40] * 6), "longer than 253|internationalised"),
        ("example.123", "the last label is a number"),
        ("\uff11.\uff12.\uff13", "the last label is a number"),
        ("💩.la", "internationalised"),
        ("xn--a\u0327.org", "internationalised"),
        ("example.org,-1", "no weight"),
        ("example.org,nan", "no weight"),
        ("example.org,inf", "no weight"),
        ("example.org,1e999", "no weight"),
        ("example.org,9999999999999999", "no weight"),
        ("example.org,", "no weight"),
        ("example.org,many", "no weight"),
        ("-3,example.org", "no rank"),
        ("1.5,example.org", "no rank"),
        ("99999999999,example.org", "no rank"),
        ("example.org,1,2", "more than two columns"),
        ("1,2", "the last label is a number"),
    ],
)
def test_a_line_is_bad_and_says_why(text, why):
    (line,) = read(text)
    assert isinstance(line, BadLine)
    assert (line.source, line.number) == ("list.csv", 1)
    assert any(part in line.why for part in why.split("|")), line.why
    assert line.text_excerpt.isprintable()
    assert "\n" not in line.why


def test_a_word_of_the_command_line_is_judged_alike():
    assert parse_domain("Example.ORG.") == "example.org"
    with pytest.raises(BadTarget, match="a URL"):
        parse_domain("http://example.org")
    with pytest.raises(BadTarget, match="'_'"):
        parse_domain("mail_1.example.org")
    assert parse_domain("mail_1.example.org", underscores=True) == "mail_1.example.org"


def test_a_whole_file_with_mark_comments_blank_and_bad_lines():
    text = "\ufeff# made by hand\r\n\r\nRank,Domain\r\n1,a.org\r\n# more\r\n2,b_.org\r\n   \r\n3,c.org"
    first, bad, last = read(text)
    assert (first, last) == (Target("a.org", rank=1), Target("c.org", rank=3))
    assert (bad.number, bad.text_excerpt) == (6, "2,b_.org")


@pytest.mark.parametrize(
    ("header", "line", "target"),
    [
        ("domain", "a.org", Target("a.org")),
        ("rank,domain", "2,a.org", Target("a.org", rank=2)),
        ("domain,rank", "a.org,2", Target("a.org", rank=2)),
        ("DOMAIN,Weight", "a.org,2", Target("a.org", weight=2)),
        ("weight,domain", "2,a.org", Target("a.org", weight=2)),
        ("rank,domain,weight", "2,a.org,0.5", Target("a.org", rank=2, weight=0.5)),
    ],
)
def test_a_header_names_the_columns(header, line, target):
    assert read(f"# comment\n\n{header}\n{line}\n") == [target]


def test_a_line_that_does_not_fit_the_header_is_bad():
    (line,) = read("rank,domain\na.org\n")
    assert (line.number, line.why) == (2, "not the columns of the header, rank,domain")


def test_only_the_first_line_is_a_header():
    assert read("a.org\ndomain\n") == [Target("a.org"), Target("domain")]


def test_a_mark_is_taken_off_the_first_line_only():
    assert [type(item) for item in read(b"\xef\xbb\xbfa.org\n\xef\xbb\xbfb.org\n")] == [Target, Target]


def test_a_line_that_comes_in_pieces_is_one_bad_line():
    """A reader with a bounded line length hands on a longer line in pieces; its tail is no target."""
    pieces = [b"x" * 65_536, b"y" * 65_536, b"tail.example.org\n", b"next.org\n"]
    bad, target = read_targets(pieces, "f")
    assert (bad.number, bad.why) == (1, f"a line of more than {MAX_LINE} octets")
    assert target == Target("next.org")


def test_reading_is_lazy():
    def endless():
        while True:
            yield b"a.org\n"

    targets = read_targets(endless(), "f")
    assert [next(targets) for _ in range(3)] == [Target("a.org")] * 3


@pytest.mark.parametrize(
    ("first", "binary"),
    [
        (b"example.org\r\n1,b.org\n", False),
        ("bücher.example\n".encode(), False),
        (b"", False),
        (b"\x7fELF\x02\x01\x01\x00", True),
        ("example.org".encode("utf-16"), True),
        (b"\x1f\x8b\x08\x08\x01\x02\x03\x04", True),
    ],
)
def test_looks_binary(first, binary):
    assert looks_binary(first) is binary


@settings(max_examples=300, derandomize=True)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=80).map(str.encode)))
def test_whatever_a_line_holds_it_is_a_target_a_bad_line_or_nothing(raw):
    for item in read_targets([raw], "f"):
        if isinstance(item, Target):
            assert parse_domain(item.domain) == item.domain
            assert item.domain.isascii()
            assert 0 < len(item.domain) <= 253
        else:
            assert item.why
            assert item.text_excerpt.isprintable()


def test_a_hard_label_takes_no_long_time():
    """The IDNA package has had quadratic inputs (CVE-2024-3651); they are too long to get there."""
    (line,) = read("\u0660" * 1300 + "\n")
    assert "longer than 253" in line.why
