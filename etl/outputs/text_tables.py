"""Text tables for terminals and files."""

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest

from rich.cells import cell_len, chop_cells

from etl.outputs.serialize import format_value

_MIN_TEXT_WIDTH = 12
_MIN_DECIMALS = 2
_GAP = 2
_NUMBER = (int, float, Decimal)
_WORD = re.compile(r"\s*\S+\s*")


def printable(text: str) -> str:
    """Text from outside, with control characters escaped: they could steer the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` terminal cells, broken between words, or inside a word that is longer."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in _WORD.findall(paragraph) if cell_len(paragraph) > width else [paragraph]:
            bare = word.rstrip()
            if cell_len(line + bare) > width:
                *full, last = chop_cells(bare, width)
                lines += [line, *full] if line else full
                line = last + word[len(bare) :]
            else:
                line += word
        lines.append(line)
    return [line.rstrip() for line in lines]


def table(rows: Iterable[Sequence[str]], widths: Sequence[int], right: Collection[int] = (), gap: int = _GAP) -> str:
    """Rows of cells, wrapped to the widths of their columns. ``right``: the columns that are aligned right."""
    lines = []
    for row in rows:
        for parts in zip_longest(*map(wrap, row, widths), fillvalue=""):
            spaces = [" " * (width - cell_len(part)) for part, width in zip(parts, widths, strict=True)]
            pairs = enumerate(zip(parts, spaces, strict=True))
            cells = (f"{space}{part}" if place in right else f"{part}{space}" for place, (part, space) in pairs)
            lines.append((" " * gap).join(cells).rstrip() + "\n")
    return "".join(lines)


def labelled(rows: Iterable[tuple[str, str]], width: int, indent: int = 0) -> str:
    """Lines of a label and a text, which is wrapped to ``width``."""
    cells = [(" " * indent + printable(label), printable(text)) for label, text in rows]
    label_width = max(cell_len(label) for label, _ in cells)
    return table(cells, [label_width, max(_MIN_TEXT_WIDTH, width - label_width - _GAP)])


# ---------------------------------------------------------------- rows of a query


def format_rows(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int | None) -> tuple[str, bool]:
    """A table of query rows, and whether values were shortened to fit ``width`` (None: no limit).

    To fit, times lose fractions of seconds and decimals lose zeros at the end; then long texts are wrapped; then each
    row becomes a block of lines. Nothing else is left out.
    """
    by_column = [[row[number] for row in rows] for number in range(len(columns))]
    headings = [printable(name) for name in columns]
    cells = [[printable(format_value(value)) for value in values] for values in by_column]
    natural = _widths(headings, cells)
    if width is None or _total(natural) <= width:
        return _table(headings, by_column, cells, natural), False
    cells = [_shorten(values, texts) for values, texts in zip(by_column, cells, strict=True)]
    natural = _widths(headings, cells)
    excess = _total(natural) - width
    for number in sorted(range(len(columns)), key=lambda number: -natural[number]):
        if excess > 0 and _all_are(by_column[number], str):
            new_width = max(_MIN_TEXT_WIDTH, len(headings[number]), natural[number] - excess)
            excess -= max(0, natural[number] - new_width)
            natural[number] = min(natural[number], new_width)
    if excess <= 0:
        return _table(headings, by_column, cells, natural), True
    return "\n".join(labelled(zip(headings, row, strict=True), width) for row in zip(*cells, strict=True)), True


def _widths(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    columns = zip(headings, cells, strict=True)
    return [max(cell_len(line) for text in (name, *texts) for line in text.split("\n")) for name, texts in columns]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _table(
    headings: Sequence[str], by_column: Sequence[list[object]], cells: Sequence[list[str]], widths: Sequence[int]
) -> str:
    numbers = {n for n, values in enumerate(by_column) if _all_are(values, _NUMBER) and not _all_are(values, bool)}
    rule = "─" * _total(widths)
    return f"{table([headings], widths, numbers)}{rule}\n{table(zip(*cells, strict=True), widths, numbers)}"


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
