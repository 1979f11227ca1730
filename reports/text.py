r"""Makes text that strangers wrote safe to show: one sanitiser for every renderer, and each format's own escapes.

Greetings, certificate names and CA names may hold anything. Shown, they stay one line of bounded length: control
characters, bidirectional controls, invisible characters and lone surrogates (bytes that were not UTF-8) are
written as escapes (`\x1b`, `\u202e`), so that they can be seen and do nothing.
"""

import html
import re
from typing import TYPE_CHECKING

from reports.amounts import AtLeast, Estimate
from scanner.records import PolicyRule

if TYPE_CHECKING:  # SQLAlchemy comes with it, and commands without a database show text too
    from reports.figures import Number, SampleInfo

LONGEST = 200
"""Characters of a shown text, the mark for what was cut included."""

LONGEST_CELL = 32_766
"""Characters of a CSV cell: what spreadsheets take, less the apostrophe."""

_CUT = "…"

# C0, DEL and C1; soft hyphen; Arabic letter mark; zero width characters and bidirectional controls (UAX 9); line
# and paragraph separators; word joiner to isolates; surrogates; byte order mark; annotations; the other
# format characters of Unicode's category Cf; tags; private use.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2"
    "\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202f\u205f-\u206f"
    "\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff]"
)
_MARKDOWN = re.compile(r"[\\`*_{}\[\]|#~$]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_LINKS = re.compile(r"(?<=[A-Za-z]):(?=//)|(?<=www)\.", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  # full-width forms count too


def show(text: str, longest: int = LONGEST) -> str:
    """`text` as one visible line of at most `longest` characters."""
    shown = _HIDDEN.sub(_escaped, text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + _CUT


def markdown(text: str, longest: int = LONGEST) -> str:
    """`text` for a Markdown table's cell: no markup, no HTML, no link, no mention, no new cell."""
    shown = _MARKDOWN.sub(r"\\\g<0>", show(text, longest))
    shown = "".join(_ENTITIES.get(character, character) for character in shown)
    return _LINKS.sub(lambda match: f"&#{ord(match.group())};", shown)


def html_text(text: str, longest: int = LONGEST) -> str:
    """`text` for the content or a quoted attribute of an HTML element."""
    return html.escape(show(text, longest), quote=True)


def spreadsheet(text: str) -> str:
    """`text` for a CSV cell that no spreadsheet takes for a formula: an apostrophe before what would start one."""
    return ("'" if text.startswith(_FORMULA) else "") + show(text, LONGEST_CELL)


def number(value: "Number") -> str:
    """A count with thousands marked: `1,234`; weights in full; an estimate with its interval behind."""
    if isinstance(value, AtLeast):
        return f"≥{round(value):,}"
    if isinstance(value, Estimate):
        low, high = value.bounds
        return f"≈{_rounded(value)} ({_rounded(low)}–{_rounded(high)})"  # noqa: RUF001  # an en dash is for ranges
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,}"


def sample_line(sample: "SampleInfo") -> str:
    """What a reader has to know of a report that tells from a sample."""
    return (
        f"Told from a sample of {number(sample.drawn)} of {number(sample.of)} addresses: ≈ marks an estimate with "
        "its 95 % interval, ≥ what was seen and is a lower bound; numbers without a mark are counts of all"
    )


def counted(count: "Number", share: float | None) -> str:
    """A count with its share, `45 (50.0 %)`; of distinct things in a sample there is no share."""
    if isinstance(count, AtLeast):
        return number(count)
    if isinstance(count, Estimate) or isinstance(share, Estimate):
        return f"{number(count)}, {percent(share)}"
    return f"{number(count)} ({percent(share)})"


def _rounded(value: float) -> str:
    return f"{round(value):,}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


def rule_line(rule: PolicyRule) -> str:
    """A dated policy in one line; the texts are the program's own."""
    who = rule.program or "CA/Browser Forum"
    gone = f" (superseded by {rule.superseded_by})" if rule.superseded_by else ""
    return f"{rule.date} {who}: {rule.says}{gone}. {rule.source}"


def percent(share: float | None) -> str:
    """A share for people: `12.3 %`, `<0.1 %` for what would vanish, `n/a` where nothing was measured."""
    if share is None or share != share:  # noqa: PLR0124  # not a number
        return "n/a"
    if isinstance(share, Estimate):
        low, high = share.bounds
        return f"{percent(float(share))} ({percent(low)}–{percent(high)})"  # noqa: RUF001  # as above
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{share:.1%}".replace("%", " %")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
