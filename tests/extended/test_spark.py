"""Spark on the exported Parquet: every row and every sum as DuckDB has them, in a session far from UTC."""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from etl.clock import Clock
from etl.outputs.export import export
from etl.warehouse import views
from etl.warehouse.engine import warehouse_url
from tests.extended.environment import environment
from tests.integration.sample_warehouse import rows

pytestmark = pytest.mark.extended

JAVA = 17
"""The oldest that Spark 4 runs on."""

DAILY = """
select account, queue, cast(hour_start as date), sum(money), sum(volume)
from spending_hourly
group by account, queue, cast(hour_start as date)
"""
TOTALS = {
    "spending_total_hourly": ("cast(hour_start as date)", "money", "volume"),
    "spending_daily": ("queue", "money", "volume"),
    "spending_monthly": ("month", "money", "volume"),
    "spending_by_app_daily": ("soft_id", "money", "volume"),
    "spending_by_ip_daily": ("ip", "money", "volume"),
    "coverage_daily": ("status", "money", "unattributed_money"),
    "reconciliation_hourly": ("state", "total_money", "rest_money"),
    "spending_revisions": ("queue", "money_before", "money_after"),
}
ASKED = [
    DAILY,
    *(f"select {by}, sum({one}), sum({other}) from {view} group by {by}" for view, (by, one, other) in TOTALS.items()),
    *(f"select {', '.join(view.columns)} from {view.name}" for view in views.public_views()),
]

PROGRAM = """
import json, sys
from pathlib import Path
from pyspark.sql import SparkSession

given = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false"}
given |= {"spark.sql.session.timeZone": "America/New_York", "spark.sql.shuffle.partitions": "2"}
spark = SparkSession.builder.master("local[2]").config(map=given).getOrCreate()
for folder in Path("lake").iterdir():
    if folder.is_dir():
        spark.read.parquet(str(folder)).createOrReplaceTempView(folder.name)
told = [[list(map(str, row)) for row in spark.sql(sql).collect()] for sql in json.load(sys.stdin)]
Path("told.json").write_text(json.dumps([spark.version, told]))
"""
"""Answers SQL about the folders of ``lake``; each value as Python writes it, so with all its digits."""


def java() -> str:
    """The program. Skips the test where there is none, or one too old."""
    found = shutil.which("java")
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr if found else ""
    version = re.search(r'version "(\d+)', said)
    if not found or not version or int(version[1]) < JAVA:
        pytest.skip(f"needs Java {JAVA} or newer (Debian: apt install openjdk-{JAVA}-jre-headless)")
    return found


def test_spark_reads_every_row_and_sum_of_an_export_to_the_last_digit_wherever_it_runs(
    synced: Path, tmp_path: Path
) -> None:
    path = f"{Path(java()).parent}:{os.defpath}"
    python = environment("spark", (3, 10), (3, 13)) / "python"
    export(warehouse_url(str(synced)), tmp_path / "lake", "parquet", Clock(), wait=5)
    done = subprocess.run(
        [python, "-c", PROGRAM],
        cwd=tmp_path,
        env={"PATH": path, "TZ": "America/New_York", "HOME": str(tmp_path)},
        input=json.dumps(ASKED),
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    version, told = json.loads((tmp_path / "told.json").read_text())
    for sql, answer in zip(ASKED, told, strict=True):
        held = Counter(tuple(map(str, row)) for row in rows(synced, sql))
        assert Counter(map(tuple, answer)) == held != Counter(), sql
    print(f"\nSpark {version}: {len(ASKED)} questions, {sum(map(len, told))} rows")
