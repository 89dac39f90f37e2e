"""What the page's sections share: what is held, what is reckoned from it, and how days and charts are put."""

from datetime import date
from decimal import Decimal
from typing import NamedTuple

from etl.models import DAY
from etl.outputs.report import metrics
from etl.outputs.report.markup import Html, a_day, count, tag
from etl.outputs.report.metrics import TOP, Line
from etl.outputs.report.queries import Period, ReportData

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LACKING = ("missing", "failed")

SuccessPayload = list[dict[str, object]]


class Drawn(NamedTuple):
    """A chart: the id of the element it is drawn in, the name of its specification, its rows by the name it knows
    them by."""

    element: str
    spec: str
    rows: dict[str, SuccessPayload]


class View(NamedTuple):
    """What is held, and what the sections share of what is reckoned from it."""

    held: ReportData
    today: date
    lines: list[Line]
    places: list[int]
    cells: dict[tuple[date, int], metrics.Cell]
    whole: set[date]
    status: dict[str, dict[date, str]]
    spent: Decimal

    @property
    def period(self) -> Period:
        return self.held.period


def view_of(held: ReportData) -> View:
    lines = metrics.lines(held.spent)
    return View(
        held=held,
        today=held.now.date(),
        lines=lines,
        places=[{"queue": number, "others": TOP, "rest": TOP + 1}[line.kind] for number, line in enumerate(lines)],
        cells={(cell.start, cell.line): cell for cell in metrics.cells(held.spent, lines)},
        whole=metrics.whole_days(held.coverage),
        status=metrics.status_by_day(held.coverage, held.now.date()),
        spent=sum((line.money for line in lines), start=Decimal(0)),
    )


def over(period: Period) -> str:
    return f"{a_day(period.first)} to {a_day(period.last)}, {count((period.last - period.first).days + 1, 'day')}"


def a_step(period: Period, start: date) -> str:
    if period.step == 1:
        return f"{WEEKDAYS[start.weekday()]}, {a_day(start)}"
    return f"{a_day(start)} to {a_day(start + DAY * 6)}"


def at(day: date) -> str:
    """The day's first second, as charts read it."""
    return f"{day}T00:00:00Z"


def drawing(element: str, said: str, kind: str) -> Html:
    """The place of a chart, and what it is in words."""
    return tag(
        "div", id=element, class_=f"chart {kind}", role="img", aria_label=f"{said}. The numbers are in the table below."
    )
