"""The backfill by dlt: parallel requests, Parquet files, merge. Arguments: the job, a JSON file, and --rest-client.

With --rest-client, dlt's REST client makes the requests and selects the records, as its declarative sources do;
without, a plain function, which costs less.
"""

import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import dlt
from dlt.sources.helpers import requests
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.paginators import SinglePagePaginator


def is_error(response: requests.Response | None, _: BaseException | None) -> bool:
    """Whether a response of status 200 is none: the retry condition of a pipeline that knows this API."""
    try:
        return response is not None and response.json()["errorId"] != 0
    except ValueError:
        return True


def main(path: str, option: str = "") -> None:
    job = json.loads(Path(path).read_text())
    folder = Path(path).parent
    dlt.config["extract.workers"] = job["concurrency"]
    dlt.config["extract.max_parallel_items"] = 2 * job["concurrency"]
    dlt.config["normalize.data_writer.disable_compression"] = True
    retry = {"retry_condition": is_error} if job["checks_body"] else {}
    session = requests.Client(raise_for_status=not option, **retry).session
    client = RESTClient(job["url"], session=session, data_selector="data", paginator=SinglePagePaginator())

    @dlt.resource
    def windows() -> Iterator[Any]:
        for day, queue in product(job["days"], job["queues"]):
            yield {"date": day, **({"queue": queue} if queue else {})}

    @dlt.transformer(
        data_from=windows,
        parallelized=True,
        table_name="facts",
        write_disposition="merge",
        primary_key=("queue", "date_from"),
        columns={"money": {"data_type": "decimal", "precision": 18, "scale": 9}},
        file_format="parquet",
    )
    def facts(window: dict[str, Any]) -> Any:
        query = {"clientKey": "any", **window}
        if option:
            pages: Any = client.paginate("getSpendingStats", "POST", json=query)
        else:
            pages = [session.post(f"{job['url']}/getSpendingStats", json=query).json()["data"]]
        return [
            {
                "queue": window.get("queue", ""),
                "date_from": record["dateFrom"],
                "volume": record["volume"],
                "money": Decimal(str(record["money"])),
            }
            for page in pages
            for record in page
        ]

    target = dlt.destinations.duckdb(str(folder / "warehouse.duckdb"))
    pipeline = dlt.pipeline("peer", destination=target, dataset_name="peer", pipelines_dir=str(folder / "dlt"))
    pipeline.run(facts, loader_file_format="parquet")


if __name__ == "__main__":
    main(*sys.argv[1:])
