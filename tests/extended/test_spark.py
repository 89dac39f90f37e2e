"""Spark reads exported Parquet with the rows and sums that DuckDB has, in a session far from UTC."""

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
"""The oldest version that Spark 4 runs on."""

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
QUERIES = [
    DAILY,
    *(f"select {by}, sum({one}), sum({other}) from {view} group by {by}" for view, (by, one, other) in TOTALS.items()),
    *(f"select {', '.join(view.columns)} from {view.name}" for view in views.public_views()),
]

PROGRAM = """
import json, sys
from pathlib import Path
from pyspark.sql import SparkSession

settings = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false"}
settings |= {"spark.sql.session.timeZone": "America/New_York", "spark.sql.shuffle.partitions": "2"}
spark = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
for folder in Path("lake").iterdir():
    if folder.is_dir():
        spark.read.parquet(str(folder)).createOrReplaceTempView(folder.name)
results = [[list(map(str, row)) for row in spark.sql(sql).collect()] for sql in json.load(sys.stdin)]
Path("results.json").write_text(json.dumps([spark.version, results]))
"""
"""Runs queries on the folders of ``lake``. Values are written as Python strings, which keeps all digits."""


def java_path() -> str:
    """The path of Java. Skips the test if it is missing or too old."""
    path = shutil.which("java")
    output = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr if path else ""
    version = re.search(r'version "(\d+)', output)
    if not path or not version or int(version[1]) < JAVA:
        pytest.skip(f"needs Java {JAVA} or newer (Debian: apt install openjdk-{JAVA}-jre-headless)")
    return path


def test_spark_reads_exact_rows_and_sums_in_any_time_zone(synced: Path, tmp_path: Path) -> None:
    path = f"{Path(java_path()).parent}:{os.defpath}"
    python = environment("spark", (3, 10), (3, 13)) / "python"
    export(warehouse_url(str(synced)), tmp_path / "lake", "parquet", Clock(), wait=5)
    done = subprocess.run(
        [python, "-c", PROGRAM],
        cwd=tmp_path,
        env={"PATH": path, "TZ": "America/New_York", "HOME": str(tmp_path)},
        input=json.dumps(QUERIES),
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    version, results = json.loads((tmp_path / "results.json").read_text())
    for sql, result in zip(QUERIES, results, strict=True):
        expected = Counter(tuple(map(str, row)) for row in rows(synced, sql))
        assert Counter(map(tuple, result)) == expected != Counter(), sql
    print(f"\nSpark {version}: {len(QUERIES)} queries, {sum(map(len, results))} rows")
