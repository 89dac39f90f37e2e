"""The charts as Altair specifications without data; ``chart_data`` has their rows.

Colors are variables of the style sheet, so that charts follow dark mode and printing. Scales are UTC; otherwise bars
would move with the reader's time zone. No specification contains a name from the data, so none can become markup.
"""

from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from etl.outputs.report.data import MIN_DAYS_BY_WEEK
from etl.outputs.report.metrics import MAX_NAMED_QUEUES

Spec = dict[str, Any]

QUEUE_COLORS = [
    *(f"var(--queue-{number})" for number in range(MAX_NAMED_QUEUES)),
    "var(--queue-others)",
    "var(--unattributed)",
]
"""In the order of ``QueueGroup.color``."""

HEAT_COLORS = [f"var(--heat-{number})" for number in range(7)]

_AXIS_MONEY = "$,.4~r"

_DAY = "(utchours(datum.value) ? '' : '%-d %b')"
_MONTH = "(utcdate(datum.value) > 1 ? '' : '%b %Y')"

_FIT = {"type": "fit", "contains": "padding"}
"""A height includes axes and labels, so that charts side by side line up."""

_CONFIG: Spec = {
    "aria": False,  # the element around a chart describes it; its single marks would say nothing
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "padding": 0,
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "ticks": False,
        "grid": False,
        "labelColor": "var(--muted)",
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


_COLOR = alt.Color("color:O", legend=None, scale=alt.Scale(domain=list(range(len(QUEUE_COLORS))), range=QUEUE_COLORS))


def script() -> str:
    """``draw.js`` bundled with Vega, Vega-Lite and vega-embed: one script that loads nothing."""
    return vl_convert.javascript_bundle(Path(__file__).with_name("draw.js").read_text("utf-8"))


def _spec(chart: alt.TopLevelMixin) -> Spec:
    spec: Spec = chart.to_dict()
    return {
        **{key: part for key, part in spec.items() if key not in {"$schema", "config"}},
        "autosize": _FIT,
        "config": _CONFIG,
    }


def spend() -> Spec:
    """Stacked bars from the rows ``spend`` (from, to, label, queue, money, volume, color, is_final).

    Behind them the rows ``days`` (from, to, fill, label): one for the whole period, so that the axis shows all of it,
    and one for each day that is missing or failed.
    """
    x = alt.X("from:T", bin="binned", scale=alt.Scale(type="utc"), axis=_date_axis(8))
    background = (
        alt.Chart(alt.NamedData("days"))
        .mark_rect()
        .encode(
            x=x,
            x2="to:T",
            fill=alt.Fill("fill:N", scale=None),
            tooltip=alt.condition("datum.label", alt.Tooltip("label:N"), alt.value(None)),
        )
    )
    bars = (
        alt.Chart(alt.NamedData("spend"))
        .mark_bar(binSpacing=1)
        .encode(
            x=x,
            x2="to:T",
            y=alt.Y("money:Q", stack="zero", axis=alt.Axis(grid=True, tickCount=5, format=_AXIS_MONEY)),
            color=_COLOR,
            order=alt.Order("color:Q", sort="descending"),
            opacity=alt.condition("datum.is_final", alt.value(1), alt.value(0.55)),
            tooltip=[
                alt.Tooltip("label:N", title="title"),
                alt.Tooltip("queue:N", title="queue"),
                alt.Tooltip("money:Q", title="USD", format="$,.2f"),
                alt.Tooltip("volume:Q", title="tasks", format=","),
            ],
        )
    )
    return _spec(alt.layer(background, bars).properties(width="container", height=290))


def _date_axis(ticks: int) -> alt.Axis:
    """Days such as 5 Mar; for a long period, months such as Mar 2026."""
    return alt.Axis(
        labelFlush=True,
        labelOverlap="greedy",
        labelSeparation=10,
        tickCount=ticks,
        labelExpr=f"utcFormat(datum.value, span(domain('x')) < {MIN_DAYS_BY_WEEK} * 864e5 ? {_DAY} : {_MONTH})",
    )


def price() -> Spec:
    """A line from the rows ``price`` (from, label, price, color) of one queue; a null price is a gap."""
    return _spec(
        alt.Chart(alt.NamedData("price"))
        .mark_line(strokeWidth=1.75, point=alt.OverlayMarkDef(size=9, filled=True))
        .encode(
            x=alt.X("from:T", scale=alt.Scale(type="utc"), axis=_date_axis(3)),
            y=alt.Y(
                "price:Q",
                scale=alt.Scale(zero=False, nice=True),
                axis=alt.Axis(grid=True, tickCount=2, format=_AXIS_MONEY, minExtent=44),
            ),
            color=_COLOR,
            tooltip=[
                alt.Tooltip("label:N", title="title"),
                alt.Tooltip("price:Q", title="USD per 1000", format="$,.4f"),
            ],
        )
        .properties(width="container", height=116)
    )


def week() -> Spec:
    """A heat map from the rows ``hours`` (weekday, hour, label, money, volume, hours)."""
    return _spec(
        alt.Chart(alt.NamedData("hours"))
        .mark_rect(xOffset=0.5, x2Offset=-0.5, yOffset=0.5, y2Offset=-0.5, cornerRadius=1)
        .encode(
            x=alt.X(
                "hour:O",
                scale=alt.Scale(domain=list(range(24))),
                axis=alt.Axis(
                    labelAngle=0, values=[0, 3, 6, 9, 12, 15, 18, 21], labelExpr="pad(datum.value, 2, '0', 'left')"
                ),
            ),
            y=alt.Y(
                "weekday:O",
                scale=alt.Scale(domain=list(range(1, 8))),
                axis=alt.Axis(labelExpr="['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][datum.value - 1]"),
            ),
            color=alt.Color("money:Q", legend=None, scale=alt.Scale(type="quantize", range=HEAT_COLORS)),
            tooltip=[
                alt.Tooltip("label:N", title="title"),
                alt.Tooltip("money:Q", title="USD per hour", format="$,.4f"),
                alt.Tooltip("volume:Q", title="tasks per hour", format=",.1f"),
                alt.Tooltip("hours:Q", title="hours averaged"),
            ],
        )
        .properties(width="container", height=196)
    )
