"""LibreOffice opens the workbooks with the sums of the warehouse."""

import csv
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.world import World, small

pytestmark = pytest.mark.extended

OFFICE = shutil.which("soffice")
EVERY_SHEET_AS_SHOWN = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,false,false,false,-1"
"""Comma, double quotes, UTF-8, from the first line; cells as they are stored, not as they are shown; all sheets."""


def convert(file: Path, to: str, home: Path) -> None:
    command = [
        str(OFFICE),
        f"-env:UserInstallation=file://{home}",
        "--headless",
        "--convert-to",
        to,
        "--outdir",
        str(file.parent),
        str(file),
    ]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif(OFFICE is None, reason="needs LibreOffice (Debian: apt install libreoffice-calc)")
def test_libreoffice_reads_the_sums_of_the_views(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with World(tmp_path, small(20, corrections=True)) as world:
        world.sync()
        assert world.run("export", "spending.xlsx") == 0
        convert(tmp_path / "spending.xlsx", EVERY_SHEET_AS_SHOWN, tmp_path_factory.mktemp("office"))
        for view in ("spending_monthly", "spending_daily", "coverage_daily"):
            rows = list(csv.DictReader((tmp_path / f"spending-{view}.csv").read_text("utf-8").splitlines()))
            [(number, total)] = world.rows(f"select count(*), sum(money) from {view}")
            assert len(rows) == number
            assert sum(Decimal(row["money"]) for row in rows) == total
