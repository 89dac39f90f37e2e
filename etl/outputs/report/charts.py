"""What is drawn, as Altair specifications without data: the page hands them the rows it shows in its tables.

Colours are the page's own variables, so a chart follows dark mode and paper like the text around it. Scales are UTC:
else bars would move with the reader's zone. Nothing here knows a queue's name, so none can be mistaken for markup.
"""

from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from etl.outputs.report.metrics import TOP
from etl.outputs.report.queries import WEEKS_FROM

Spec = dict[str, Any]

LINE_COLOURS = [*(f"var(--line-{number})" for number in range(TOP)), "var(--line-others)", "var(--line-rest)"]
"""By place: the queues shown by name, the others, what no queue explains."""

HEAT_COLOURS = [f"var(--heat-{number})" for number in range(7)]

_AXIS_MONEY = "$,.4~r"

_DAY = "(utchours(datum.value) ? '' : '%-d %b')"
_MONTH = "(utcdate(datum.value) > 1 ? '' : '%b %Y')"

_FIT = {"type": "fit", "contains": "padding"}
"""Heights are those of whole charts, so that neighbours stand on one line."""

_CONFIG: Spec = {
    "aria": False,  # the figure says in words what a mark by mark reading would not
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "padding": 0,
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "ticks": False,
        "grid": False,
        "labelColor": "var(--soft)",
        "labelFontSize": 11,
        "labelPadding": 6,
        "gridColor": "var(--rule)",
        "title": None,
    },
    "axisX": {
        "domain": True,
        "domainColor": "var(--rule)",
        "ticks": True,
        "tickColor": "var(--rule)",
        "tickSize": 4,
        "labelPadding": 3,
    },
}


_COLOUR = alt.Color("place:O", legend=None, scale=alt.Scale(domain=list(range(len(LINE_COLOURS))), range=LINE_COLOURS))


def script() -> str:
    """``draw.js`` with Vega, Vega-Lite and vega-embed in it: one script that loads nothing."""
    return vl_convert.javascript_bundle(Path(__file__).with_name("draw.js").read_text("utf-8"))


def _spec(chart: alt.TopLevelMixin) -> Spec:
    spec: Spec = chart.to_dict()
    return {
        **{key: part for key, part in spec.items() if key not in {"$schema", "config"}},
        "autosize": _FIT,
        "config": _CONFIG,
    }


def spend() -> Spec:
    """Stacked bars of the rows ``spend`` (from, to, label, queue, money, volume, place, is_final).

    Behind them ``days`` (from, to, fill, said): the whole period, so that the axis shows it all, and what is lacking
    of it.
    """
    x = alt.X("from:T", bin="binned", scale=alt.Scale(type="utc"), axis=_dates(8))
    behind = (
        alt.Chart(alt.NamedData("days"))
        .mark_rect()
        .encode(
            x=x,
            x2="to:T",
            fill=alt.Fill("fill:N", scale=None),
            tooltip=alt.condition("datum.said", alt.Tooltip("said:N"), alt.value(None)),
        )
    )
    bars = (
        alt.Chart(alt.NamedData("spend"))
        .mark_bar(binSpacing=1)
        .encode(
            x=x,
            x2="to:T",
            y=alt.Y("money:Q", stack="zero", axis=alt.Axis(grid=True, tickCount=5, format=_AXIS_MONEY)),
            color=_COLOUR,
            order=alt.Order("place:Q", sort="descending"),
            opacity=alt.condition("datum.is_final", alt.value(1), alt.value(0.55)),
            tooltip=[
                alt.Tooltip("label:N", title="title"),
                alt.Tooltip("queue:N", title="queue"),
                alt.Tooltip("money:Q", title="USD", format="$,.2f"),
                alt.Tooltip("volume:Q", title="tasks", format=","),
            ],
        )
    )
    return _spec(alt.layer(behind, bars).properties(width="container", height=290))


def _dates(monotonic: int) -> alt.Axis:
    """Days by number and month; where there are months between two of them, firsts of a month by month and year."""
    return alt.Axis(
        labelFlush=True,
        labelOverlap="greedy",
        labelSeparation=10,
        tickCount=monotonic,
        labelExpr=f"utcFormat(datum.value, span(domain('x')) < {WEEKS_FROM} * 864e5 ? {_DAY} : {_MONTH})",
    )


def price() -> Spec:
    """One queue's line of the rows ``price`` (from, label, price, place); a null is a gap in it."""
    return _spec(
        alt.Chart(alt.NamedData("price"))
        .mark_line(strokeWidth=1.75, point=alt.OverlayMarkDef(size=9, filled=True))
        .encode(
            x=alt.X("from:T", scale=alt.Scale(type="utc"), axis=_dates(3)),
            y=alt.Y(
                "price:Q",
                scale=alt.Scale(zero=False, nice=True),
                axis=alt.Axis(grid=True, tickCount=2, format=_AXIS_MONEY, minExtent=44),
            ),
            color=_COLOUR,
            tooltip=[
                alt.Tooltip("label:N", title="title"),
                alt.Tooltip("price:Q", title="USD per 1000", format="$,.4f"),
            ],
        )
        .properties(width="container", height=116)
    )


def week() -> Spec:
    """The hours of the week of the rows ``slots`` (weekday, hour, label, money, volume, hours), the palest the
    cheapest."""
    return _spec(
        alt.Chart(alt.NamedData("slots"))
        .mark_rect(xOffset=0.5, x2Offset=-0.5, yOffset=0.5, y2Offset=-0.5, cornerRadius=1)
        .encode(
            x=alt.X(
                "hour:O",
                axis=alt.Axis(
                    labelAngle=0, values=[0, 3, 6, 9, 12, 15, 18, 21], labelExpr="pad(datum.value, 2, '0', 'left')"
                ),
            ),
            y=alt.Y(
                "weekday:O",
                axis=alt.Axis(labelExpr="['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][datum.value - 1]"),
            ),
            color=alt.Color("money:Q", legend=None, scale=alt.Scale(type="quantize", range=HEAT_COLOURS)),
            tooltip=[
                alt.Tooltip("label:N", title="title"),
                alt.Tooltip("money:Q", title="USD an hour", format="$,.4f"),
                alt.Tooltip("volume:Q", title="tasks an hour", format=",.1f"),
                alt.Tooltip("hours:Q", title="hours read"),
            ],
        )
        .properties(width="container", height=196)
    )
