"""The backfill by a Singer tap of the Singer SDK, for target-duckdb. Arguments: --config and the job, a JSON file.

The SDK requests one partition after the other; as some taps do, this one has threads request them ahead.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import islice, product
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.exceptions import RetriableAPIError


class Facts(RESTStream[int]):
    name = "facts"
    path = "/getSpendingStats"
    http_method = "POST"
    records_jsonpath = "$.data[*]"
    primary_keys = ("queue", "date_from")
    schema = th.PropertiesList(
        th.Property("queue", th.StringType, required=True),
        th.Property("date_from", th.IntegerType(maximum=2**63 - 1), required=True),
        th.Property("volume", th.IntegerType(maximum=2**63 - 1)),
        th.Property("money", th.StringType),  # target-duckdb stores every number as a double
    ).to_dict()

    @property
    def url_base(self) -> str:
        return str(self.config["url"])

    @cached_property
    def requests_session(self) -> requests.Session:
        session = requests.Session()
        session.mount("http://", HTTPAdapter(pool_maxsize=self.config["concurrency"]))
        return session

    def validate_response(self, response: requests.Response) -> None:
        super().validate_response(response)
        if self.config["checks_body"]:
            try:
                is_error = response.json()["errorId"] != 0
            except ValueError:
                is_error = True
            if is_error:
                raise RetriableAPIError("an error in a response of status 200", response)

    def prepare_request_payload(self, context: Any, next_page_token: int | None) -> dict[str, Any]:  # noqa: ARG002 - the SDK's signature
        return {"clientKey": "any", **context}

    def get_records(self, context: Any) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - the same
        windows = (
            {"date": day, **({"queue": queue} if queue else {})}
            for day, queue in product(self.config["days"], self.config["queues"])
        )
        ahead = 2 * self.config["concurrency"]
        with ThreadPoolExecutor(self.config["concurrency"]) as pool:
            waiting: deque[Future[list[dict[str, Any]]]] = deque(
                pool.submit(self._window, window) for window in islice(windows, ahead)
            )
            while waiting:
                yield from waiting.popleft().result()
                for window in islice(windows, 1):
                    waiting.append(pool.submit(self._window, window))

    def _window(self, window: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "queue": window.get("queue", "(total)"),  # target-duckdb reads an empty text as null
                "date_from": record["dateFrom"],
                "volume": record["volume"],
                "money": str(record["money"]),
            }
            for record in self.request_records(window)
        ]


class SpendingTap(Tap):
    name = "tap-spending"
    config_jsonschema = th.PropertiesList(
        th.Property("url", th.StringType, required=True),
        th.Property("concurrency", th.IntegerType, required=True),
        th.Property("checks_body", th.BooleanType, required=True),
        th.Property("days", th.ArrayType(th.IntegerType), required=True),
        th.Property("queues", th.ArrayType(th.StringType), required=True),
    ).to_dict()

    def discover_streams(self) -> list[RESTStream[int]]:
        return [Facts(self)]


if __name__ == "__main__":
    SpendingTap.cli()
