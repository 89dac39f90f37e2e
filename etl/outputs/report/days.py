"""By time: the hours of the week, the months, and what is held of each day."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from etl.models import DAY
from etl.outputs.report import charts, metrics
from etl.outputs.report.markup import (
    NONE,
    Child,
    Column,
    Html,
    a_day,
    cents,
    count,
    details,
    join,
    rate,
    section,
    table,
    tag,
    tasks,
    usd,
)
from etl.outputs.report.metrics import STATUSES
from etl.outputs.report.queries import Period
from etl.outputs.report.view import WEEKDAYS, Drawn, SuccessPayload, View, drawing

_MEANS = {
    "final": "read after its lookback had passed",
    "open": "read, may still change",
    "missing": "never read",
    "failed": "the last attempt failed",
}


def _hour(weekday: int, hour: int) -> str:
    return f"{WEEKDAYS[weekday - 1]}, {hour:02}:00 to {(hour + 1) % 24:02}:00"


def week(view: View) -> Html:
    title = "Hours of the week"
    slots = {(slot.weekday, slot.hour): slot for slot in view.held.slots}
    if not slots:
        return section(title, "No hour of this period was read yet.")
    means = {key: metrics.mean(slot.money, slot.hours) for key, slot in slots.items()}
    (low_at, low), (high_at, high) = (pick(means.items(), key=lambda item: item[1]) for pick in (min, max))
    lead = join(
        "The mean spend of an hour, UTC. Dearest: ",
        _hour(*high_at),
        ", ",
        usd(high),
        ". Cheapest: ",
        _hour(*low_at),
        ", ",
        usd(low),
        ".",
    )
    scale = tag(
        "p",
        cents(low),
        *(tag("i", style=f"background:{colour}") for colour in charts.HEAT_COLOURS),
        cents(high),
        class_="scale soft",
    )
    rows = [
        (f"{hour:02}:00", *(usd(means[day, hour]) if (day, hour) in means else None for day in range(1, 8)))
        for hour in range(24)
    ]
    columns = [Column("UTC"), *(Column(day, True) for day in WEEKDAYS)]
    numbers = details(
        "Mean US dollars by hour and weekday", table("Mean US dollars an hour, by hour and weekday", columns, rows)
    )
    return section(
        title, lead, drawing("week", "Heat map: mean US dollars an hour by weekday and hour", "heat"), scale, numbers
    )


def week_chart(view: View) -> Iterator[Drawn]:
    rows: SuccessPayload = [
        {
            "weekday": slot.weekday,
            "hour": slot.hour,
            "label": f"{_hour(slot.weekday, slot.hour)} UTC",
            "money": metrics.mean(slot.money, slot.hours),
            "volume": metrics.mean(Decimal(slot.volume), slot.hours),
            "hours": slot.hours,
        }
        for slot in view.held.slots
    ]
    if rows:
        yield Drawn("week", "week", {"slots": rows})


def months(view: View) -> Html:
    columns = [Column("month"), Column("USD", True), Column("tasks", True), Column("per 1000", True), Column("")]
    rows = [
        (
            f"{month.month:%b %Y}",
            usd(month.money),
            tasks(month.volume),
            rate(metrics.price(month.money, month.volume)),
            "final" if month.is_final else "to date" if month.month == view.today.replace(day=1) else "not final",
        )
        for month in view.held.months
    ]
    return section(
        "Months",
        f"The last {count(len(rows), 'month')} with spend, all queues.",
        table("Spend by month", columns, rows),
    )


def coverage(view: View) -> Html:
    parts: list[Child] = []
    for account, by_day in view.status.items():
        counts = {status: sum(found == status for found in by_day.values()) for status in STATUSES}
        said = join(
            f"{a_day(min(by_day))} to {a_day(view.today)}: {count(len(by_day), 'day')}. ",
            *(
                tag("span", tag("i", _sign(status), class_=status), f" {counts[status]:,} {status}")
                for status in STATUSES
            ),
        )
        if len(view.status) > 1:
            parts.append(tag("h3", "account ", tag("bdi", account)))
        parts.append(tag("p", said, class_="key"))
        parts.append(tag("div", *(_month(month, by_day) for month in _months_of(view.period)), class_="calendars"))
    means = "; ".join(f"{status}: {_MEANS[status]}" for status in STATUSES)
    return section("Coverage", f"What is held of each day. {means[0].upper()}{means[1:]}.", *parts)


def _sign(status: str) -> str:
    return {"final": "", "open": "\N{WHITE CIRCLE}", "missing": NONE, "failed": "\N{MULTIPLICATION SIGN}"}[status]


def _months_of(period: Period) -> list[date]:
    months = [period.first.replace(day=1)]
    while (after := (months[-1] + DAY * 31).replace(day=1)) <= period.last:
        months.append(after)
    return months


def _month(month: date, by_day: dict[date, str]) -> Html:
    days: list[date | None] = [None] * month.weekday()
    day = month
    while day.month == month.month:
        days.append(day)
        day += DAY
    days += [None] * (-len(days) % 7)
    weeks = (tag("tr", *(_cell(day, by_day) for day in days[at : at + 7])) for at in range(0, len(days), 7))
    heads = tag("tr", *(tag("th", tag("abbr", day[0], title=day), scope="col") for day in WEEKDAYS))
    return tag("table", tag("caption", f"{month:%b %Y}"), tag("thead", heads), tag("tbody", *weeks), class_="calendar")


def _cell(day: date | None, by_day: dict[date, str]) -> Html:
    if day is None:
        return tag("td")
    status = by_day.get(day)
    if status is None:
        return tag("td", str(day.day), class_="outside")
    sign = tag("b", _sign(status), aria_hidden="true") if _sign(status) else None
    return tag(
        "td",
        str(day.day),
        sign,
        tag("span", f" {status}", class_="unseen"),
        class_=status,
        title=f"{a_day(day)}: {status}",
    )
