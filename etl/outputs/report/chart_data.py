"""The rows that the charts of ``charts.js`` draw, and the JSON that it reads them from."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from etl.models import DAY
from etl.outputs.report import metrics
from etl.outputs.report.data import MIN_DAYS_BY_WEEK
from etl.outputs.report.formatting import long_date, usd
from etl.outputs.report.view import View, step_label, week_hour_label
from etl.outputs.serialize import as_json

QUEUE_COLORS = [
    *(f"var(--queue-{number})" for number in range(metrics.MAX_NAMED_QUEUES)),
    "var(--queue-others)",
    "var(--unattributed)",
]
"""In the order of ``QueueGroup.color``."""

HEAT_COLORS = [f"var(--heat-{number})" for number in range(7)]

Rows = list[dict[str, object]]


class Chart(NamedTuple):
    """A chart: the id of its element, the name of its specification, and the data sets that the specification names."""

    element: str
    spec: str
    rows: dict[str, Rows]


def chart_json(view: View) -> str:
    """What ``charts.js`` reads, as JSON for a script element: no ``<`` can end the element or open a comment."""
    palette = {"queueColors": QUEUE_COLORS, "heatColors": HEAT_COLORS, "minDaysByWeek": MIN_DAYS_BY_WEEK}
    palette |= {"unit": view.period.unit}
    text = as_json({**palette, "charts": [chart._asdict() for chart in list_charts(view)]})
    return text.replace("<", "\\u003c")


def list_charts(view: View) -> Iterator[Chart]:
    if view.groups:
        yield Chart(
            "spend", "spend", {"spend": _spend_rows(view), "days": _day_rows(view), "changes": _change_rows(view)}
        )
    for number, _ in view.queue_groups:
        yield Chart(f"price-{number}", "price", {"price": _price_rows(view, number)})
    if view.week:
        yield Chart("week", "week", {"hours": _week_rows(view)})


def _spend_rows(view: View) -> Rows:
    return [
        {
            "from": _midnight(step),
            "to": _midnight(step + DAY * view.period.step_days),
            "label": step_label(view.period, step),
            "queue": view.groups[number].label,
            "color": view.groups[number].color,
            "money": spend.money,
            "volume": spend.volume,
            "is_final": spend.is_final,
        }
        for (step, number), spend in view.spend.items()
    ]


def _change_rows(view: View) -> Rows:
    if view.change is None:
        return []
    difference = view.change.after - view.change.before
    label = f"{view.change.queue}: {'+' if difference > 0 else ''}{usd(difference)} a week"
    return [{"from": _midnight(view.change.step), "label": label}]


def _day_rows(view: View) -> Rows:
    """The whole period, then every missing or failed day once, even if several accounts lack it: overlapping hatches
    would look darker."""
    labels: dict[date, list[str]] = defaultdict(list)
    for account in view.coverage:
        for day, status in account.status.items():
            if status in {"missing", "failed"} and day >= view.period.first:
                labels[day].append(f"{status}, account {account.account}" if view.has_many_accounts else status)
    rows: Rows = [_day_row(view.period.first, view.period.end, "transparent", "")]
    rows += (
        _day_row(day, day + DAY, "url(#hatch)", f"{long_date(day)}: {'; '.join(labels[day])}") for day in sorted(labels)
    )
    return rows


def _day_row(start: date, end: date, fill: str, label: str) -> dict[str, object]:
    return {"from": _midnight(start), "to": _midnight(end), "fill": fill, "label": label}


def _price_rows(view: View, number: int) -> Rows:
    rows: Rows = []
    for step in view.period.steps:
        spend = view.spend.get((step, number))
        price, label = spend.price_per_1000 if spend else None, step_label(view.period, step)
        rows.append({"from": _midnight(step), "label": label, "price": price, "color": view.groups[number].color})
    return rows


def _week_rows(view: View) -> Rows:
    return [
        {
            "weekday": row.weekday,
            "hour": row.hour,
            "label": f"{week_hour_label(row.weekday, row.hour)} {view.data.zone}",
            "money": metrics.mean_per_hour(row.money, row.hours),
            "volume": metrics.mean_per_hour(row.volume, row.hours),
            "hours": row.hours,
        }
        for row in view.data.week_hours
    ]


def _midnight(day: date) -> str:
    """The start of the day as Vega reads it."""
    return f"{day}T00:00:00Z"
