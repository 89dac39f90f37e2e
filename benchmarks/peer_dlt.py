"""The same backfill by dlt, tuned: parallel requests, Parquet files, merge. It is given every window in advance.

Arguments: FOLDER URL CONCURRENCY FIRST DAYS QUEUES; the queues one per line, FIRST in Unix seconds.
"""

import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import dlt  # type: ignore[import-not-found]  # installed in .venv-peers only
import httpx

DAY = 86_400


def main(folder: str, url: str, concurrency: str, first: str, days: str, queues: str) -> None:
    http = httpx.Client(limits=httpx.Limits(max_connections=int(concurrency)), trust_env=False)
    directory = Path(folder)
    dlt.config["extract.workers"] = int(concurrency)
    dlt.config["extract.max_parallel_items"] = 2 * int(concurrency)
    dlt.config["normalize.data_writer.disable_compression"] = True
    money = {"data_type": "decimal", "precision": 18, "scale": 9}

    @dlt.resource
    def windows() -> Iterator[Any]:
        for day in range(int(days)):
            for name in (None, *queues.split("\n")):
                yield {"date": int(first) + day * DAY, "queue": name}

    @dlt.transformer(
        data_from=windows,
        parallelized=True,
        table_name="facts",
        write_disposition="merge",
        primary_key=("queue", "date_from"),
        columns={"money": money},
        file_format="parquet",
    )
    def facts(window: dict[str, Any]) -> Any:
        question = {"clientKey": "any", **{name: value for name, value in window.items() if value is not None}}
        answer = http.post(f"{url}/getSpendingStats", content=json.dumps(question))
        records = json.loads(answer.content, parse_float=Decimal)["data"]
        name = window["queue"] or "(total)"
        return [
            {"queue": name, "date_from": one["dateFrom"], "volume": one["volume"], "money": Decimal(one["money"])}
            for one in records
        ]

    target = dlt.destinations.duckdb(str(directory / "warehouse.duckdb"))
    pipeline = dlt.pipeline("peer", destination=target, dataset_name="peer", pipelines_dir=str(directory / "dlt"))
    pipeline.run(facts, loader_file_format="parquet")
    with pipeline.sql_client() as client:
        rows = client.execute_sql("select count(*) from facts")
    print(json.dumps({"rows": rows[0][0]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
