"""HTML by construction: every text goes through ``tag``, which escapes what is not ``Html`` already.

Numbers are shown as people read them and carry all their digits in ``value``.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from html import escape
from typing import NamedTuple

_VOID = frozenset({"meta"})
_CENT = Decimal("0.01")

MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | Html | None


def tag(element: str, /, *children: Child, **attributes: str | None) -> Html:
    """An element. Children that are not Html are escaped, so are all attributes; ``class_`` is class, ``_`` in names
    is ``-``."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{element}{said}>" if element in _VOID else f"<{element}{said}>{join(*children)}</{element}>")


def join(*children: Child) -> Html:
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children if child is not None))


# ---------------------------------------------------------------- numbers


def exact(value: Decimal | int) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def number(value: Decimal | int, shown: str) -> Html:
    """A number as people read it; all its digits are in ``value``, and under the pointer."""
    return tag("data", shown, value=exact(value), title=exact(value) if exact(value) != shown else None)


def cents(value: Decimal) -> str:
    """Dollars to the cent, rounded half to even; what is less than one in all its digits, so that it never reads as
    nothing."""
    sign, size = MINUS if value < 0 else "", abs(value)
    return f"{sign}${size.normalize():f}" if 0 < size < _CENT else f"{sign}${size:,.2f}"


def usd(value: Decimal) -> Html:
    return number(value, cents(value))


def tasks(value: int) -> Html:
    return number(value, f"{value:,}")


def rate(value: Decimal | None) -> Html:
    """A price per 1000 tasks; nothing where there were no tasks."""
    return Html("") if value is None else number(value, f"${value:,.4f}")


def share(part: Decimal, whole: Decimal) -> str:
    return f"{part * 100 / whole:.1f} %" if whole > 0 else ""


def a_day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


def a_moment(moment: datetime) -> str:
    return f"{a_day(moment.date())}, {moment:%H:%M} UTC"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# ---------------------------------------------------------------- parts


class Column(NamedTuple):
    label: str
    is_number: bool = False


def table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Child]], class_: str = "") -> Html:
    """The first cell of a row is its heading."""
    heads = (tag("th", column.label, scope="col", class_="number" if column.is_number else None) for column in columns)
    lines = (
        tag(
            "tr",
            tag("th", first, scope="row"),
            *(
                tag("td", cell, class_="number" if column.is_number else None)
                for column, cell in zip(columns[1:], unattributed, strict=True)
            ),
        )
        for first, *unattributed in rows
    )
    inner = tag(
        "table", tag("caption", caption, class_="unseen"), tag("thead", tag("tr", *heads)), tag("tbody", *lines)
    )
    return tag("div", inner, class_=f"scroll {class_}".strip(), tabindex="0", role="region", aria_label=caption)


def details(summary: str, content: Html) -> Html:
    return tag("details", tag("summary", summary), content)


def section(title: str, lead: Child, *content: Child, class_: str | None = None) -> Html:
    return tag("section", tag("h2", title), tag("p", lead, class_="lead"), *content, class_=class_)
