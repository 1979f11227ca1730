"""One chart a figure, as one specification that serves the page, SVG and PNG files alike.

Bars of shares, one colour a hierarchy or class; two key fields become stacked bars; `exposure` goes along time.
Altair makes the Vega-Lite
specification and vl-convert renders it, both without a browser or a network; they are the extra `charts`.
"""

from collections.abc import Mapping
from typing import Any

from reports import timeline
from reports.definitions import UNIT_TITLES, Unit
from reports.figures import Figure, Report
from reports.text import counted, show
from reports.timeline import BAR, INK
from scanner.records import Role

CHARTS: Mapping[str, Unit] = {
    "eku": Unit.MX_HOST,
    "hierarchy": Unit.MX_HOST,
    "eku_by_hierarchy": Unit.MX_HOST,
    "programs": Unit.MX_HOST,
    "client_auth": Unit.MX_HOST,
    "eku_by_client_auth": Unit.MX_HOST,
    "exposure": Unit.CERTIFICATE,
    "validity": Unit.CERTIFICATE,
    "key_types": Unit.CERTIFICATE,
    "tls_versions": Unit.MX_HOST,
    "software": Unit.MX_HOST,
}
"""Which figures are drawn, and in which unit."""

CLIENT_CHARTS = ("eku", "hierarchy")
"""Which figures of role client are drawn, in the unit certificate."""

MOST_BARS = 15
WIDTH = 600
COLOURS: Mapping[str, str] = {
    "server+client": "#d9822b",
    "server-only": "#3b76af",
    "client-only": "#7a68a6",
    "any": "#c2a83e",
    "absent": "#8a8f98",
    "public-chrome": "#3b76af",
    "public-not-chrome": "#5aa7b0",
    "public-purpose-unknown": "#7a68a6",
    "public-other-purpose": "#c2a83e",
    "private": "#d9822b",
    "self-signed": "#b5495b",
    "undetermined": "#8c6d46",
    "required": "#b5495b",
    "requested": "#d9822b",
    "not-requested": "#3b76af",
}
"""A class has its colour in every chart; what is not here takes one of the palette."""

PALETTE = (
    "#3b76af",
    "#d9822b",
    "#4f9d69",
    "#b5495b",
    "#7a68a6",
    "#8c6d46",
    "#5aa7b0",
    "#a0a0a0",
    "#c2a83e",
    "#d27ba8",
)
PADDING = {"left": 40, "right": 60, "top": 8, "bottom": 8}
"""Room for a reader's font that is wider than the one that the layout was computed with."""


class NoCharts(ValueError):
    """The extra `charts` is not installed; the message is one line."""


def drawn(report: Report) -> list[Figure]:
    """The figures of a report that have a chart, in order."""
    # Of distinct certificates a sample gives no share, so it is drawn in MX hosts.
    found = [
        report.figure(name, Unit.MX_HOST if report.sample and unit is Unit.CERTIFICATE else unit)
        for name, unit in CHARTS.items()
    ]
    found += [report.figure(name, Unit.CERTIFICATE, Role.CLIENT) for name in CLIENT_CHARTS]
    return [figure for figure in found if figure is not None and figure.rows]


def specification(figure: Figure) -> dict[str, Any]:
    """The Vega-Lite specification of a figure's chart."""
    altair = _altair()
    if figure.id == "exposure":
        return _styled(timeline.chart(altair, figure).properties(width=WIDTH, height=240))
    shown = sorted(figure.rows, key=lambda row: -row.count)[:MOST_BARS]
    keys = figure.definition.keys
    values = [
        {
            "key": show(row.key[0]),
            "series": show(row.key[1]) if len(keys) > 1 else "",
            "share": float(row.share or 0.0),
            "label": counted(row.count, row.share),
        }
        for row in shown
    ]
    order = list(dict.fromkeys(value["key"] for value in values))
    chart = altair.Chart(altair.Data(values=values)).encode(
        x=altair.X(
            "share:Q",
            title=f"share of measured {UNIT_TITLES[figure.unit]}",
            axis=altair.Axis(format=".0%", tickCount=8),
        ),
        y=altair.Y("key:N", title=None, sort=order),
    )
    if len(keys) > 1:
        series = sorted({str(value["series"]) for value in values})
        scale = altair.Scale(domain=series, range=_colours(series))
        colour = altair.Color("series:N", title=keys[1], scale=scale)
        layered = chart.mark_bar(size=16).encode(color=colour)
    else:
        scale = altair.Scale(domain=order, range=[COLOURS.get(str(key), BAR) for key in order])
        bars = chart.mark_bar(size=16).encode(color=altair.Color("key:N", scale=scale, legend=None))
        layered = bars + chart.mark_text(align="left", dx=4, color=INK).encode(text="label:N")
    return _styled(layered.properties(width=WIDTH, height={"step": 26}))


def _colours(names: list[str]) -> list[str]:
    """A colour a name: its own, else the next of the palette that no other has."""
    free = iter(colour for colour in PALETTE * 2 if colour not in {COLOURS.get(name) for name in names})
    return [COLOURS.get(name) or next(free, BAR) for name in names]


def _styled(chart: Any) -> dict[str, Any]:
    made: dict[str, Any] = (
        chart.configure(background="transparent", font="system-ui, sans-serif", padding=PADDING)
        .configure_view(stroke=None)
        .configure_axis(labelColor=INK, titleColor=INK, gridColor=INK, gridOpacity=0.2, domain=False, ticks=False)
        .configure_axisY(labelLimit=240, labelFontSize=12)
        .configure_legend(
            labelColor=INK, titleColor=INK, orient="bottom", columns=3, columnPadding=48, labelFontSize=11
        )
        .to_dict()
    )
    return made


def svg(figure: Figure) -> str:
    """The chart as an SVG element."""
    return str(_vl_convert().vegalite_to_svg(specification(figure)))


def png(figure: Figure) -> bytes:
    """The chart as a PNG image, on white, twice the size of the SVG."""
    white = specification(figure)
    white["config"]["background"] = "white"
    return bytes(_vl_convert().vegalite_to_png(white, scale=2))


def _altair() -> Any:
    try:
        import altair as alt  # noqa: PLC0415  # an extra: reports without charts do not need it
    except ImportError:
        raise NoCharts("charts need the extra `charts`: pip install 'mxcensus[charts]'") from None
    return alt


def _vl_convert() -> Any:
    try:
        import vl_convert  # noqa: PLC0415  # an extra, as above
    except ImportError:
        raise NoCharts("charts need the extra `charts`: pip install 'mxcensus[charts]'") from None
    return vl_convert
