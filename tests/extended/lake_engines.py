"""Read a lake with one engine, in an environment of its own: ``lake_engines.py ENGINE LAKE`` prints rows as JSON.

Each prints, for every queue and day, the exact sums of money and volume. With a file of the cookbook as a third argument,
the rows of that question.
"""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

SQL = """
    select queue, cast(day as varchar(10)) as day, cast(sum(money) as decimal(28, 9)) as money, sum(volume) as volume
      from {} group by queue, day
"""


SPENDING_DAILY = """
    create temporary view spending_daily as
    select account, queue, day, sum(volume) as volume, cast(sum(money) as decimal(18, 9)) as money
      from spending_hourly group by account, queue, day
"""


def duckdb(lake: str) -> Iterable[tuple[object, ...]]:
    import duckdb
    from duckdb_extensions import import_extension

    import_extension("delta")
    connection = duckdb.connect()
    connection.execute("load delta")
    return connection.execute(SQL.format(f"delta_scan('{lake}/spending_hourly')")).fetchall()


def polars(lake: str) -> Iterable[tuple[object, ...]]:
    import polars as pl

    hours = pl.scan_delta(f"{lake}/spending_hourly")
    sums = hours.group_by("queue", pl.col("day").cast(pl.String)).agg(pl.col("money").sum(), pl.col("volume").sum())
    return sums.collect().rows()


def pandas(lake: str) -> Iterable[tuple[object, ...]]:
    from deltalake import DeltaTable

    hours = DeltaTable(f"{lake}/spending_hourly").to_pandas()
    sums = hours.groupby(["queue", "day"], as_index=False).agg(money=("money", "sum"), volume=("volume", "sum"))
    return [(row.queue, str(row.day), row.money, row.volume) for row in sums.itertuples()]


def clickhouse(lake: str) -> Iterable[tuple[object, ...]]:
    os.chdir(lake)  # it reads only below its folder
    import chdb

    sql = f"""
        select queue, toString(day), sum(money), sum(volume)
          from deltaLakeLocal('{lake}/spending_hourly') group by queue, day
    """
    return [tuple(line.split("\t")) for line in str(chdb.query(sql, "TSV")).splitlines()]


def sail_cluster(lake: str, question: str | None = None) -> Iterable[tuple[object, ...]]:
    """A driver and two workers that exchange rows over the network."""
    os.environ |= {"SAIL_MODE": "local-cluster", "SAIL_CLUSTER__WORKER_INITIAL_COUNT": "2"}
    return sail(lake, question)


def sail(lake: str, question: str | None = None) -> Iterable[tuple[object, ...]]:
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    host, port = server.listening_address
    spark = SparkSession.builder.remote(f"sc://{host}:{port}").getOrCreate()
    for table in ("spending_hourly", "spending_total_hourly", "coverage_daily"):
        spark.sql(f"create table {table} using delta location '{lake}/{table}'")
    spark.sql(SPENDING_DAILY)
    sql = Path(question).read_text() if question else SQL.format("spending_hourly")
    return [tuple(row) for row in spark.sql(sql).collect()]


if __name__ == "__main__":
    found = globals()[sys.argv[1]](*sys.argv[2:])
    print(json.dumps([[str(value) for value in row] for row in found]), flush=True)
    os._exit(0)  # Sail's server would keep the process alive
