"""Excel workbooks and CSV files for spreadsheets: every digit, no formulas, and nothing written if it does not fit."""

import csv
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from openpyxl import load_workbook

from etl.clock import Clock
from etl.errors import UsageError
from etl.outputs import workbook
from etl.outputs.export import WORKBOOK_VIEWS, export
from etl.outputs.query import Result, write_excel
from etl.outputs.workbook import Sheet, write_workbook
from tests.integration.sample_warehouse import FILLED, SampleWarehouse, rows

CLOCK = Clock(now=lambda: datetime(2026, 11, 22, 9, 30, tzinfo=UTC))


@pytest.fixture
def sample(migrated_file: Path, tmp_path: Path) -> SampleWarehouse:
    sample = SampleWarehouse(tmp_path)
    shutil.copy(migrated_file, sample.file)
    sample.write(FILLED)
    return sample


def sheet_of(*rows: tuple[object, ...], columns: tuple[str, ...] = ("a",)) -> Sheet:
    @contextmanager
    def open_rows() -> Iterator[Result]:
        yield Result(columns, iter(rows))

    return Sheet("rows", open_rows)


def cells(path: Path, sheet: str) -> list[tuple[object, ...]]:
    return list(load_workbook(path)[sheet].iter_rows(values_only=True))


def test_a_workbook_has_the_rows_and_sums_of_the_views(sample: SampleWarehouse, tmp_path: Path) -> None:
    path = tmp_path / "spending.xlsx"
    counts = export(sample.url, path, "xlsx", CLOCK, wait=5)
    assert list(counts) == [*WORKBOOK_VIEWS] == load_workbook(path).sheetnames
    for view in WORKBOOK_VIEWS:
        header, *found = cells(path, view)
        [(number, total)] = rows(sample.file, f"select count(*), sum(money) from {view}")
        assert counts[view] == len(found) == number
        money = header.index("money")
        assert sum(Decimal(str(row[money])) for row in found) == total


def test_cells_have_types_a_fixed_header_and_a_filter(sample: SampleWarehouse, tmp_path: Path) -> None:
    path = tmp_path / "query.xlsx"
    sql = "select timestamp '2026-11-21 03:00' as at, date '2026-11-21' as day, 1.5 as money, 7 as n, true as yes, null as no"
    write_excel(sample.url, sql, path, wait=5, clock=CLOCK, mode=0o640)
    sheet = load_workbook(path)["query"]
    at, day, money, number, yes, no = sheet[2]
    assert (at.value, day.value) == (datetime(2026, 11, 21, 3), datetime(2026, 11, 21))
    assert (at.number_format, day.number_format) == ("yyyy-mm-dd hh:mm", "yyyy-mm-dd")
    assert (money.value, number.value, yes.value, no.value) == (1.5, 7, True, None)
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "A1:F2")
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Decimal("123456.789012345"), 123456.789012345),
        (Decimal("1234567.890123456"), "1234567.890123456"),
        (-(10**14), -(10**14)),
        (10**15, 10**15),
        (10**15 + 1, "1000000000000001"),
        (Decimal("NaN"), "NaN"),
    ],
)
def test_numbers_that_excel_would_round_are_text_with_a_remark(tmp_path: Path, value: object, stored: object) -> None:
    path = tmp_path / "one.xlsx"
    write_workbook([sheet_of((value,))], path)
    opened = load_workbook(path)
    assert opened["rows"]["A2"].value == stored
    assert opened.sheetnames == (["rows", "remarks"] if isinstance(stored, str) else ["rows"])


@pytest.mark.parametrize("text", ["=1+1", "@x", "http://example.com", "{=1}", "+1", "-1"])
def test_texts_are_texts_in_a_workbook(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.xlsx"
    write_workbook([sheet_of((text,))], path)
    cell = load_workbook(path)["rows"]["A2"]
    assert (cell.value, cell.data_type, cell.hyperlink) == (text, "s", None)


def test_a_long_text_is_shortened_with_a_remark(tmp_path: Path) -> None:
    path = tmp_path / "one.xlsx"
    write_workbook([sheet_of(("x" * 40_000,))], path)
    opened = load_workbook(path)
    assert len(opened["rows"]["A2"].value) == 32_767
    assert opened["remarks"]["A1"].value == (
        "rows, column a: texts with more than 32,767 characters are cut, because Excel cannot store them."
    )


def test_more_rows_than_excel_has_leave_the_old_file(
    sample: SampleWarehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "MAX_ROWS", 10)
    path = tmp_path / "query.xlsx"
    write_excel(sample.url, "from range(9)", path, wait=5, clock=CLOCK, mode=0o600)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"more rows than Excel can show .*nothing was written") as refused:
        write_excel(sample.url, "from range(10)", path, wait=5, clock=CLOCK, mode=0o600)
    assert "--format csv" in refused.value.hint
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.glob("*.xlsx")] == ["query.xlsx"]


def test_without_the_extra_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(UsageError, match="XlsxWriter") as missing:
        write_workbook([sheet_of()], tmp_path / "one.xlsx")
    assert missing.value.hint.startswith("pip install '.[excel]'")


def test_an_unknown_view_is_refused(sample: SampleWarehouse, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no view spending_dayly"):
        export(sample.url, tmp_path / "x.xlsx", "xlsx", CLOCK, wait=5, names=["spending_dayly"])


def test_csv_of_an_export_is_safe_for_spreadsheets_unless_chosen_otherwise(
    sample: SampleWarehouse, tmp_path: Path
) -> None:
    sample.write("update internal.series set member = '=cmd' where member is not null and dimension = 'queue'")
    for is_safe, expected in ((True, "'=cmd"), (False, "=cmd")):
        folder = tmp_path / f"{is_safe}"
        export(sample.url, folder, "csv", CLOCK, wait=5, names=["spending_daily"], is_safe=is_safe)
        written = csv.DictReader((folder / "spending_daily.csv").read_text().splitlines())
        assert expected in {row["queue"] for row in written}
        assert {file.name for file in folder.iterdir()} == {"_export.json", "spending_daily.csv"}
