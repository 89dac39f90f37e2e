"""Cost of a year of one account with 20 busy queues on each engine, in the units of ``docs/explanation/scale.md``."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import sqlalchemy as sa

from benchmarks.cost import Cost, python
from benchmarks.figure import Figure
from benchmarks.service import Account, serving
from etl.warehouse.copy import table_checksum
from etl.warehouse.engine import open_warehouse, warehouse_path, warehouse_url
from etl.warehouse.schema import metadata
from tests.postgres import new_database, server_seconds

QUEUES = 20
MONTHS = "select queue, month, sum(money) from spending_monthly group by 1, 2"


def measure(*, short: bool) -> Iterator[Figure]:
    first, second = (Account(days, QUEUES, QUEUES) for days in ((20, 40) if short else (182, 365)))
    for engine in ("duckdb", "postgresql"):
        yield from _on(engine, first, second)


def _on(engine: str, first: Account, second: Account) -> Iterator[Figure]:
    """Measure two histories; the difference leaves out constant costs."""
    costs = []
    for account in (first, second):
        with tempfile.TemporaryDirectory() as folder, serving(account) as url:
            warehouse = new_database() if engine == "postgresql" else warehouse_url(str(Path(folder) / "w.duckdb"))
            before = _server_seconds(engine)
            cost = python("sync_once", folder, url, 8, *account, ANTICAPTCHA_WAREHOUSE=warehouse)
            spent = _server_seconds(engine) - before
            costs.append((cost, spent, _sizes(warehouse)))
            if account == second:
                night = python("sync_once", folder, url, 8, *account, ANTICAPTCHA_WAREHOUSE=warehouse)
                query_seconds = _seconds(warehouse, MONTHS)
    (small, small_server, small_sizes), (large, large_server, large_sizes) = costs
    requests = int(large.result["requests"]) - int(small.result["requests"])

    def unit(of: Callable[[Cost], float]) -> float:
        return (of(large) - of(small)) / requests

    yield Figure(
        f"{engine}: processor time of this program", 1000 * unit(lambda cost: cost.cpu), None, "ms per request"
    )
    yield Figure(
        f"{engine}: wall time, 8 at once, no latency", 1000 * unit(lambda cost: cost.seconds), None, "ms per request"
    )
    if engine == "postgresql":
        server_cost = 1000 * (large_server - small_server) / requests
        yield Figure("postgresql: processor time of the server", server_cost, None, "ms per request")
    for table, (rows, size) in sorted(large_sizes.items()):
        few, little = small_sizes[table]
        yield Figure(f"{engine}: {table}", (size - little) / (rows - few), None, "bytes per row", of=f"{rows:,} rows")
    yield Figure(
        f"{engine}: the next night, processor time", night.cpu, None, "s", of=f"{night.result['requests']} requests"
    )
    yield Figure(f"{engine}: memory of the program", large.peak, None, "MB")
    yield Figure(f"{engine}: spend by queue and month", query_seconds, None, "s")


def _server_seconds(engine: str) -> float:
    return server_seconds() if engine == "postgresql" else 0.0


def _sizes(warehouse: str) -> dict[str, tuple[int, float]]:
    """Return rows and bytes by table, indexes included; for a file, the bytes of the whole file."""
    path = warehouse_path(warehouse)
    with open_warehouse(warehouse, read_only=True).connect() as connection:
        rows = {
            table.name: table_checksum(connection, table.fullname, list(table.columns)).rows
            for table in metadata.sorted_tables
        }
        if path:
            return {"facts, with everything else in the file": (rows["facts"], path.stat().st_size)}
        size = sa.text("select pg_total_relation_size(cast(:table as regclass))")
        large = ("facts", "snapshots", "responses")
        return {
            name: (rows[name], connection.execute(size, {"table": f"internal.{name}"}).scalar_one()) for name in large
        }


def _seconds(warehouse: str, sql: str) -> float:
    with open_warehouse(warehouse, read_only=True).connect() as connection:
        connection.exec_driver_sql(sql).all()
        began = perf_counter()
        connection.exec_driver_sql(sql).all()
        return perf_counter() - began
