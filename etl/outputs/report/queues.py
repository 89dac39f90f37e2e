"""By queue: what was spent, and what 1000 tasks cost."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from etl.models import DAY
from etl.outputs.report import metrics
from etl.outputs.report.markup import (
    Column,
    Html,
    a_day,
    details,
    join,
    rate,
    section,
    share,
    table,
    tag,
    tasks,
    usd,
)
from etl.outputs.report.metrics import TOP, Line
from etl.outputs.report.view import LACKING, Drawn, SuccessPayload, View, a_step, at, drawing, over


def _name(line: Line, place: int) -> Html:
    colour = str(place) if place < TOP else ("others", "rest")[place - TOP]
    return tag("span", tag("i", style=f"background:var(--line-{colour})"), tag("bdi", line.label), class_="name")


def spend(view: View) -> Html:
    each = view.period.word
    if not view.lines:
        return section("Spend by queue", f"{over(view.period)}: nothing was spent on the days read.")
    most = max((line for line in view.lines if line.kind != "others"), key=lambda line: line.money)
    lead = join(
        f"{over(view.period)}: ",
        usd(view.spent),
        ". The largest part, ",
        share(most.money, view.spent) or usd(most.money),
        ", went to ",
        tag("bdi", most.label),
        f". One bar a {each}; paler: may still change; hatched: a day missing or failed.",
    )
    return section(
        "Spend by queue",
        lead,
        drawing("spend", f"Stacked bars: US dollars a {each} by queue", "large"),
        _legend(view),
        _numbers(view),
    )


def _legend(view: View) -> Html:
    columns = [
        Column("queue"),
        Column("USD", True),
        Column("share", True),
        Column("per 1000", True),
        Column("tasks", True),
    ]
    volume = sum(line.volume for line in view.lines)
    rows = [
        (
            _name(line, place),
            usd(line.money),
            share(line.money, view.spent),
            rate(line.price_per_1000),
            tasks(line.volume),
        )
        for line, place in zip(view.lines, view.places, strict=True)
    ]
    total = (
        "all queues",
        usd(view.spent),
        share(view.spent, view.spent),
        rate(metrics.price(view.spent, volume)),
        tasks(volume),
    )
    return table(f"Spend by queue, {over(view.period)}", columns, [*rows, total], class_="legend")


def _numbers(view: View) -> Html:
    each = view.period.word
    columns = [Column(each), Column("all", True), *(Column(line.label, True) for line in view.lines)]
    rows = []
    for start in reversed(view.period.starts()):
        found = [view.cells.get((start, number)) for number in range(len(view.lines))]
        total = sum((cell.money for cell in found if cell), start=Decimal(0))
        if any(found):
            rows.append(
                (a_step(view.period, start), usd(total), *(usd(cell.money) if cell else None for cell in found))
            )
    return details(f"US dollars by {each} and queue", table(f"US dollars by {each} and queue", columns, rows))


def prices(view: View) -> Html:
    each = view.period.word
    priced = [(number, line) for number, line in enumerate(view.lines) if line.kind == "queue"]
    if not priced:
        return section("Price per 1000 tasks", "No queue has spent in this period.")
    panels = []
    for place, line in priced:
        prices = [cell.price_per_1000 for cell in _cells_of(view, place) if cell.price_per_1000 is not None]
        between = join(rate(min(prices)), " to ", rate(max(prices))) if prices else Html("no tasks")
        heading = tag("h3", _name(line, view.places[place]))
        panel = drawing(f"price-{place}", f"Line: US dollars per 1000 tasks a {each}, {line.label}", "small")
        panels.append(tag("div", heading, tag("p", between, class_="soft"), panel, class_="panel"))
    columns = [Column(each), *(Column(line.label, True) for _, line in priced)]
    rows = []
    for start in reversed(view.period.starts()):
        found = [view.cells.get((start, number)) for number, _ in priced]
        if any(found):
            rows.append((a_step(view.period, start), *(rate(cell.price_per_1000) if cell else None for cell in found)))
    numbers = details(
        f"US dollars per 1000 tasks by {each} and queue", table(f"Price per 1000 by {each} and queue", columns, rows)
    )
    lead = f"What 1000 tasks cost, {each} by {each}, with the least and the most. Each panel has a scale of its own."
    return section("Price per 1000 tasks", lead, tag("div", *panels, class_="panels"), numbers)


def _cells_of(view: View, line: int) -> list[metrics.Cell]:
    return [cell for (_, number), cell in view.cells.items() if number == line]


def spend_chart(view: View) -> Iterator[Drawn]:
    if not view.lines:
        return
    rows: SuccessPayload = [
        {
            "from": at(start),
            "to": at(start + DAY * view.period.step),
            "label": a_step(view.period, start),
            "queue": view.lines[line].label,
            "place": view.places[line],
            "money": cell.money,
            "volume": cell.volume,
            "is_final": cell.is_final,
        }
        for (start, line), cell in view.cells.items()
    ]
    whole: dict[str, object] = {
        "from": at(view.period.start(view.period.first)),
        "to": at(view.period.end),
        "fill": "transparent",
        "said": "",
    }
    lacking: SuccessPayload = [
        {"from": at(day), "to": at(day + DAY), "fill": "url(#hatch)", "said": f"{a_day(day)}: {said}"}
        for day, said in _lacking(view).items()
    ]
    yield Drawn("spend", "spend", {"spend": rows, "days": [whole, *lacking]})


def _lacking(view: View) -> dict[date, str]:
    """The days that are missing or failed, and of which account; of several accounts each day once, or its hatches
    would add up."""
    found: dict[date, list[str]] = defaultdict(list)
    for account, by_day in view.status.items():
        for day, status in by_day.items():
            if status in LACKING and day >= view.period.first:
                found[day].append(status if len(view.status) == 1 else f"{status}, account {account}")
    return {day: "; ".join(found[day]) for day in sorted(found)}


def price_charts(view: View) -> Iterator[Drawn]:
    for place, line in enumerate(view.lines):
        if line.kind == "queue":
            cells = [(start, view.cells.get((start, place))) for start in view.period.starts()]
            rows: SuccessPayload = [
                {
                    "from": at(start),
                    "label": a_step(view.period, start),
                    "place": view.places[place],
                    "price": cell.price_per_1000 if cell else None,
                }
                for start, cell in cells
            ]
            yield Drawn(f"price-{place}", "price", {"price": rows})
