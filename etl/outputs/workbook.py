"""Write rows to an Excel workbook: one sheet for each result, with typed cells that show every digit.

Excel keeps 15 significant digits of a number, so numbers with more are written as text, and a sheet "remarks" says
so. All texts are texts: none becomes a formula or a link.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from etl.errors import UsageError
from etl.outputs.query import Result
from etl.outputs.serialize import format_value

MAX_ROWS, MAX_COLUMNS, MAX_TEXT, MAX_DIGITS = 1_048_576, 16_384, 32_767, 15
"""Limits of Excel: rows with the header, columns, characters in a cell, significant digits of a number."""

_LONG_NUMBER = "numbers with more than 15 digits are text, because Excel would round them."
_LONG_TEXT = "texts with more than 32,767 characters are cut, because Excel cannot store them."
_FORMATS = {datetime: "yyyy-mm-dd hh:mm", date: "yyyy-mm-dd", Decimal: "#,##0.00#######", int: "#,##0"}
_MAX_WIDTH = 60


class Sheet(NamedTuple):
    """``open`` runs the query when the sheet is written."""

    name: str
    open: Callable[[], AbstractContextManager[Result]]


def write_workbook(sheets: Iterable[Sheet], path: Path) -> dict[str, int]:
    """Write a workbook and return its number of rows by sheet.

    Raises UsageError if XlsxWriter is missing, and for more rows or columns than Excel has; then the file is
    incomplete.
    """
    try:
        from xlsxwriter import Workbook  # noqa: PLC0415 - an extra
    except ImportError as error:
        hint = "pip install '.[excel]' in the folder of the repository"
        raise UsageError("Excel workbooks need XlsxWriter, which is not installed", hint) from error
    rows, remarks = dict[str, int](), list[str]()
    with Workbook(str(path), {"constant_memory": True, "tmpdir": str(path.parent)}) as workbook:
        formats = {kind: workbook.add_format({"num_format": text}) for kind, text in _FORMATS.items()}
        header = workbook.add_format({"bold": True, "bottom": 1})
        for sheet in sheets:
            with sheet.open() as result:
                worksheet = workbook.add_worksheet(sheet.name)
                rows[sheet.name], found = _write_sheet(worksheet, sheet.name, result, formats, header)
                remarks += found
        if remarks:
            worksheet = workbook.add_worksheet("remarks")
            worksheet.set_column(0, 0, 120)
            for row, remark in enumerate(remarks):
                worksheet.write_string(row, 0, remark)
    return rows


def _write_sheet(
    worksheet: Any, name: str, result: Result, formats: dict[type, Any], header: Any
) -> tuple[int, list[str]]:
    """Write the rows; return their number, and remarks about columns whose values are not all stored as they are."""
    if len(result.columns) > MAX_COLUMNS:
        raise UsageError(
            f"{name} has {len(result.columns):,} columns, but Excel at most {MAX_COLUMNS:,}", "select fewer"
        )
    worksheet.freeze_panes(1, 0)
    worksheet.repeat_rows(0)
    worksheet.set_landscape()
    worksheet.fit_to_pages(1, 0)  # printed, all columns are on one page
    for column, title in enumerate(result.columns):
        worksheet.write_string(0, column, title, header)
    widths, remarks, number = [*map(len, result.columns)], dict[int, str](), 0
    for number, row in enumerate(result.rows, start=1):
        if number == MAX_ROWS:
            hint = "narrow the query or the views, or use --format csv or parquet"
            raise UsageError(f"{name} has more rows than Excel can show ({MAX_ROWS - 1:,}); nothing was written", hint)
        for column, value in enumerate(row):
            text, remark = _write_cell(worksheet, number, column, value, formats)
            widths[column] = max(widths[column], len(text))
            if remark:
                remarks[column] = remark
    for column, width in enumerate(widths):
        worksheet.set_column(column, column, min(width, _MAX_WIDTH) + 2)
    if result.columns:
        worksheet.autofilter(0, 0, number, len(result.columns) - 1)
    return number, [f"{name}, column {result.columns[column]}: {remark}" for column, remark in sorted(remarks.items())]


def _write_cell(
    worksheet: Any, row: int, column: int, value: object, formats: dict[type, Any]
) -> tuple[str, str | None]:
    """Write a value; return its text, and a remark if it is not stored as it is."""
    text = format_value(value)
    match value:
        case None:
            pass
        case bool():
            worksheet.write_boolean(row, column, value)
        case int() | Decimal() if _is_exact(value):
            worksheet.write_number(row, column, value, formats[Decimal if isinstance(value, Decimal) else int])
        case datetime():
            moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            worksheet.write_datetime(row, column, moment, formats[datetime])
        case date():
            worksheet.write_datetime(row, column, value, formats[date])
        case float() if value == value and abs(value) != float("inf"):
            worksheet.write_number(row, column, value)
        case _:
            worksheet.write_string(row, column, text[:MAX_TEXT])
            if isinstance(value, int | Decimal):
                return text, _LONG_NUMBER
            return text, _LONG_TEXT if len(text) > MAX_TEXT else None
    return text, None


def _is_exact(value: int | Decimal) -> bool:
    number = Decimal(value)
    return number.is_finite() and len(number.normalize().as_tuple().digits) <= MAX_DIGITS
