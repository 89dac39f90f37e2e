"""Sum a lake of a billion hours by day, with DuckDB and with Sail. The files are like those of a first shipment."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from time import perf_counter

import duckdb

from benchmarks.figure import Figure
from etl.config.values import part_of
from etl.outputs.lake import delta
from etl.warehouse.parquet import ArrowStream
from tests.extended.environment import environment

ACCOUNTS, QUEUES, DAYS_A_MONTH = 10_000, 2, 28
ENGINES = Path(__file__).parents[1] / "tests" / "extended" / "lake_engines.py"


_HOURS = """
    with hours as (
        select unnest(generate_series(0, {days} * 24 - 1)) as number
    )
    select {columns}
      from (select account, bucket, 'q' || q as queue, timestamp '{first}' + number * interval '1 hour' as hour_start,
                   timestamp '{first}' + (number + 1) * interval '1 hour' as hour_end,
                   cast(hash(account, number, q) % 997 as bigint) as volume,
                   cast(cast(hash(account, q, number) % 10007 as decimal(18, 9)) / 10000 as decimal(18, 9)) as money,
                   'USD' as currency, true as is_final, timestamp '2026-11-01' as loaded_at,
                   date '{first}' + cast(number // 24 as int) as day, '{month}' as month
              from accounts, range({queues}) as a(q), hours)
     order by bucket, account, queue, hour_start
"""


def measure(*, short: bool) -> Iterator[Figure]:
    months, accounts = (1, 10) if short else (75, ACCOUNTS)
    facts = months * accounts * QUEUES * DAYS_A_MONTH * 24
    with tempfile.TemporaryDirectory() as folder:
        began = perf_counter()
        _write(f"{folder}/lake", months, accounts)
        seconds = perf_counter() - began
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.parquet"))
        remark = f"{size / 1e9:.2f} GB"
        yield Figure(f"lake of {facts:,} hours, written", seconds, None, "s", remark=remark)
        for engine in ("duckdb",) if short else ("duckdb", "sail", "sail_cluster"):
            began = perf_counter()
            program = environment("lake", (3, 10), (3, 13)) / "python"
            command = [str(program), str(ENGINES), engine, f"{folder}/lake"]
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds = perf_counter() - began
            if found.count('"], [') + 1 != months * DAYS_A_MONTH * QUEUES:
                sys.exit(f"{engine} printed other rows than expected")
            yield Figure(f"lake of {facts:,} hours, sums by {engine}", seconds, None, "s", remark="start included")


def _write(location: str, months: int, accounts: int) -> None:
    lake = delta.open_lake(location, create=True)
    table = lake.tables["spending_hourly"]
    columns = ", ".join(table.schema.all_columns)
    with duckdb.connect() as connection, delta.errors(location) as deltalake:
        connection.execute("create table accounts (account varchar, bucket int)")
        names = (f"agency-{number}" for number in range(accounts))
        connection.executemany(
            "insert into accounts values (?, ?)", [(name, part_of(name, lake.buckets)) for name in names]
        )
        for month in range(months):
            first = date(2020 + month // 12, month % 12 + 1, 1)
            sql = _HOURS.format(columns=columns, first=first, month=f"{first:%Y-%m}", queues=QUEUES, days=DAYS_A_MONTH)
            deltalake.write_deltalake(table.delta, ArrowStream(connection.sql(sql)), mode="append")
