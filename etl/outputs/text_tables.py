"""Text tables for terminals and files."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from io import StringIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from etl.outputs.serialize import format_value

UNLIMITED = 1_000_000
"""Width of output that is not wrapped."""
_MIN_TEXT_WIDTH = 12
_MIN_DECIMALS = 2
_GAP = 2


def printable(text: str) -> Text:
    """Text from outside, with control characters escaped: they could steer the terminal."""
    return Text("".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text))


def render(*parts: RenderableType, width: int = UNLIMITED) -> str:
    """The parts as plain text, one below the other, without spaces at line ends."""
    out = StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False, markup=False)
    for part in parts:
        console.print(part, soft_wrap=width == UNLIMITED)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def grid(rows: Iterable[Sequence[str]], indent: int = 0) -> Table:
    """Rows of labels with one text at the end, which is wrapped."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for number, row in enumerate(rows):
        if number == 0:
            for _ in row[1:]:
                table.add_column(no_wrap=True)
            table.add_column(overflow="fold")
        table.add_row(Text(" " * indent) + printable(row[0]), *map(printable, row[1:]))
    return table


# ---------------------------------------------------------------- rows of a query


def format_rows(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int | None) -> tuple[str, bool]:
    """A table of query rows, and whether values were shortened to fit ``width`` (None: no limit).

    To fit, times lose fractions of seconds and decimals lose zeros at the end; then long texts are wrapped; then each
    row becomes a block of lines. Nothing else is left out.
    """
    by_column = [[row[number] for row in rows] for number in range(len(columns))]
    headings = [printable(name).plain for name in columns]
    cells = [[printable(format_value(value)).plain for value in values] for values in by_column]
    natural = _widths(headings, cells)
    if width is None or _total(natural) <= width:
        return render(_table(headings, by_column, cells, natural)), False
    cells = [_shorten(values, texts) for values, texts in zip(by_column, cells, strict=True)]
    natural = _widths(headings, cells)
    excess = _total(natural) - width
    for number in sorted(range(len(columns)), key=lambda number: -natural[number]):
        if excess > 0 and _all_are(by_column[number], str):
            new_width = max(_MIN_TEXT_WIDTH, len(headings[number]), natural[number] - excess)
            excess -= max(0, natural[number] - new_width)
            natural[number] = min(natural[number], new_width)
    if excess <= 0:
        return render(_table(headings, by_column, cells, natural), width=width), True
    blocks = [grid(zip(headings, row, strict=True)) for row in zip(*cells, strict=True)]
    return "\n".join(render(block, width=width) for block in blocks), True


def _widths(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    columns = zip(headings, cells, strict=True)
    return [max(cell_len(line) for text in (name, *texts) for line in text.split("\n")) for name, texts in columns]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _table(
    headings: Sequence[str], by_column: Sequence[list[object]], cells: Sequence[list[str]], widths: Sequence[int]
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    for name, values, width in zip(headings, by_column, widths, strict=True):
        is_number = _all_are(values, (int, float, Decimal)) and not _all_are(values, bool)
        table.add_column(Text(name), justify="right" if is_number else "left", width=width, overflow="fold")
    for row in zip(*cells, strict=True):
        table.add_row(*map(Text, row))
    return table


def _all_are(values: Iterable[object], kind: type | tuple[type, ...]) -> bool:
    """True if there are values other than NULL, all of this type."""
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, kind) for value in known)


def _shorten(values: Sequence[object], texts: list[str]) -> list[str]:
    if _all_are(values, datetime):
        end = 16 if {text[16:] for text in texts if text} == {":00Z"} else 19
        return [text[:end].replace("T", " ") for text in texts]
    if _all_are(values, Decimal) and all("." in text for text in texts if text):
        used = max(len(text.rstrip("0").partition(".")[2]) for text in texts)
        surplus = max(len(text.partition(".")[2]) for text in texts) - max(used, _MIN_DECIMALS)
        return [text[:-surplus] for text in texts] if surplus > 0 else texts
    return texts
