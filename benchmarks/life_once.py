"""Sync one account every night for some years, in one process. Arguments: FOLDER NIGHTS_PER_YEAR YEAR...

The API is the sandbox with late corrections, over loopback, at a time that advances by a day. Prints one line of JSON:
for each YEAR, the bytes of the file, the number of files, the facts and snapshots, the memory of the process and the
processor seconds of a night (both include the sandbox).
"""

import json
import logging
import resource
import sys
from contextvars import Context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import process_time

import duckdb

from benchmarks.cost import KEY, MEGABYTE
from etl import config
from etl.clock import Clock
from etl.sandbox.behaviour import Behaviour
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox
from etl.sync.run import sync_account

FIRST_NIGHT = datetime(2016, 1, 31, 3, 7, tzinfo=UTC)
NIGHTS_MEASURED = 20
QUEUES = 5


def main(folder: str, nights_per_year: int, years: list[int]) -> None:
    logging.basicConfig(level=logging.ERROR)
    times = [FIRST_NIGHT]

    def now() -> datetime:
        return times[-1]

    first_day = FIRST_NIGHT.date() - timedelta(days=30)
    dataset = Dataset(seed=3, begins=first_day, queues=QUEUES, corrections=True, idle_weeks=0, turnover=False)
    marks: dict[int, dict[str, float]] = {}
    seconds: list[float] = []
    with Sandbox(dataset, Behaviour(unknown_queue="zeros"), now=now) as sandbox:
        environment = config.Environment(
            {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": sandbox.url}, Path(folder)
        )
        options = {"rate": 0, "concurrency": 4, "since": str(first_day), "queues": list(dataset.names)}
        for night in range(1, nights_per_year * years[-1] + 1):
            settings = config.load(options, now(), environment, needs_key=True)
            began = process_time()
            result = Context().run(sync_account, settings, Clock(now=now), lambda _: None)
            seconds.append(process_time() - began)
            assert result.exit_code == 0, result
            if night in {year * nights_per_year for year in years}:
                marks[night // nights_per_year] = _mark(Path(folder), seconds)
            times.append(now() + timedelta(days=1))
    print(json.dumps(marks))


def _mark(folder: Path, seconds: list[float]) -> dict[str, float]:
    file = folder / "warehouse.duckdb"
    with duckdb.connect(file, read_only=True) as connection:
        counts = [
            connection.execute(f"select count(*) from internal.{table}").fetchall()[0][0]
            for table in ("facts", "snapshots", "runs")
        ]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "size": file.stat().st_size / MEGABYTE,
        "files": sum(1 for _ in folder.iterdir()),
        "facts": counts[0],
        "snapshots": counts[1],
        "runs": counts[2],
        "memory": pages * resource.getpagesize() / MEGABYTE,
        "night": median(seconds[-NIGHTS_MEASURED:]),
    }


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [*map(int, sys.argv[3:])])
