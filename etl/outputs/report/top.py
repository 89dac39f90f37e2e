"""The top of the page: what it is of, what to know before trusting it, and the month in four numbers."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal

from etl import __version__
from etl.models import DAY
from etl.outputs.report import metrics
from etl.outputs.report.markup import MINUS, NONE, Child, Html, a_day, a_moment, count, join, number, section, tag, usd
from etl.outputs.report.queries import Forecast, ReportData
from etl.outputs.report.view import LACKING, View
from etl.outputs.status import to_ranges

_STALE = timedelta(hours=48)


_SPANS_SHOWN = 8


def header(view: View) -> Html:
    held = view.held
    return tag(
        "header",
        tag("h1", "Anti-Captcha spending"),
        tag("p", tag("strong", held.warehouse), ", ", _whose(held.accounts), ", ", a_moment(held.now)),
        tag("p", "Money is US dollars. All days, hours and months are UTC.", class_="soft"),
    )


def _whose(names: Sequence[str]) -> Html:
    """Each name by itself: one that is written from right to left must not turn the others around."""
    if not names:
        return join("no account yet")
    several = len(names) > 1
    parts = [part for name in names for part in (", ", tag("bdi", name))]
    return join("accounts " if several else "account ", *parts[1:], " together" if several else None)


def nothing() -> Html:
    return section(
        "Nothing is held yet",
        "This warehouse has no day of any account. Load the history, then make this page again:",
        tag("pre", tag("code", "anticaptcha-etl sync\nanticaptcha-etl report -o report.html")),
        tag(
            "p",
            "No key at hand? ",
            tag("code", "anticaptcha-etl demo"),
            " shows everything with invented spending.",
            class_="soft",
        ),
    )


def notices(view: View) -> Html | None:
    """What to know before trusting a number; nothing when there is nothing."""
    found = list(_warnings(view))
    return (
        tag("ul", *(tag("li", text) for text in found), class_="notices", aria_label="Before you trust a number")
        if found
        else None
    )


def _warnings(view: View) -> Iterator[Child]:
    held = view.held
    if blocking := sum(finding.severity == "blocking" for finding in held.findings):
        yield f"{count(blocking, 'blocking finding')}: do not trust the numbers yet; see Findings below."
    reads = [row.fetched_at for row in held.coverage if row.fetched_at is not None]
    if not reads:
        yield "No day was read with success yet."
    elif held.now - max(reads) > _STALE:
        yield f"The newest reading is of {a_moment(max(reads))}: anticaptcha-etl sync brings the rest."
    missing, failed = (
        {day for by_day in view.status.values() for day, found in by_day.items() if found == status}
        for status in LACKING
    )
    if missing:
        yield f"{count(len(missing), 'day')} missing, not in any sum: {_spans(missing)}. Run anticaptcha-etl sync."
    if failed:
        yield f"{count(len(failed), 'day')} failed when last asked: {_spans(failed)}. anticaptcha-etl sync asks again."


def _spans(days: Iterable[date]) -> str:
    found = [
        a_day(span.first) if span.first == span.last else f"{a_day(span.first)} to {a_day(span.last)}"
        for span in to_ranges(days)
    ]
    return ", ".join(found[-_SPANS_SHOWN:]) + (
        f", and {count(len(found) - _SPANS_SHOWN, 'older span')}" if found[_SPANS_SHOWN:] else ""
    )


def headline(view: View) -> Html:
    held, today = view.held, view.today
    this, last = (metrics.month_of(held.months, day) for day in (today, today.replace(day=1) - DAY))
    compared = metrics.compare(held.daily, view.whole, today)
    reads = [row.fetched_at for row in held.coverage if row.fetched_at is not None]
    return tag(
        "section",
        tag("h2", "In short", class_="unseen"),
        _tile(
            f"{today:%B} to date",
            usd(this.money),
            f"{this.volume:,} tasks; read until {a_moment(max(reads))}" if reads else "",
        ),
        _forecast_tile(today, this.money, held.forecast),
        _tile(
            f"{last.month:%B}", usd(last.money), f"{last.volume:,} tasks; {'final' if last.is_final else 'not final'}"
        ),
        _compared_tile(last.month, compared),
        class_="tiles",
    )


def _tile(title: str, value: Child, *said: Child) -> Html:
    return tag("div", tag("h3", title), tag("p", value, class_="big"), tag("p", *said, class_="soft"), class_="tile")


def _forecast_tile(today: date, spent: Decimal, forecast: Forecast | None) -> Html:
    title = f"{today:%B}, forecast"
    if forecast is None:
        return _tile(title, NONE, "needs a day of this month, and each weekday to come once in the 13 weeks before")
    return _tile(
        title,
        usd(forecast.middle),
        usd(forecast.low),
        " to ",
        usd(forecast.high),
        ": the days to come like their weekdays in the 13 weeks before",
        _range(spent, forecast),
    )


def _range(spent: Decimal, forecast: Forecast) -> Html | None:
    """The month as a bar: what is spent, and where it may end."""
    if spent < 0 or forecast.high <= 0:
        return None

    def at(value: Decimal) -> str:
        return f"{value * 100 / forecast.high:.2f}%"

    return tag(
        "span",
        tag("i", class_="spent", style=f"width:{at(spent)}"),
        tag("i", class_="between", style=f"left:{at(forecast.low)};right:0"),
        tag("i", class_="middle", style=f"left:{at(forecast.middle)}"),
        class_="range",
        aria_hidden="true",
    )


def _compared_tile(last: date, compared: metrics.Comparison | None) -> Html:
    title = f"Against the same days of {last:%B}"
    if compared is None:
        return _tile(title, NONE, "no day of this month, with its like in the last, was read whole yet")
    change = compared.per_cent
    shown: Child = NONE if change is None else number(change, f"{MINUS if change < 0 else '+'}{abs(change):,.1f} %")
    first, *_, end = (*compared.days, compared.days[-1])
    is_whole = len(compared.days) == end - first + 1
    days = (
        (f"day {first}" if first == end else f"days {first} to {end}")
        if is_whole
        else f"{len(compared.days)} days read whole"
    )
    return _tile(title, shown, usd(compared.this), " against ", usd(compared.last), f", {days}")


def footer(held: ReportData) -> Html:
    return tag(
        "footer",
        tag(
            "p",
            f"anticaptcha-etl {__version__}. {held.warehouse}, {a_moment(held.now)}. Point at a number to see "
            "all its digits.",
        ),
    )
