"""Run one sync at a fixed time and print what it did. Arguments: FOLDER URL CONCURRENCY and an account."""

import json
import logging
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb

from benchmarks.cost import KEY
from benchmarks.service import Account
from etl import config
from etl.clock import Clock
from etl.sync.run import sync_account

_connect = duckdb.connect


class Stopwatch:
    """Counts the seconds and calls of DuckDB, in whichever module it is opened."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    def timed(self, function: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            began = perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                self.seconds += perf_counter() - began
                self.calls += 1

        return call

    def connect(self, *arguments: Any, **keywords: Any) -> "Connection":
        return Connection(self.timed(_connect)(*arguments, **keywords), self)


class Connection:
    """A DuckDB connection whose methods are timed."""

    def __init__(self, connection: Any, stopwatch: Stopwatch) -> None:
        self._connection, self._stopwatch = connection, stopwatch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        return self._stopwatch.timed(found) if callable(found) else found

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(self, *arguments: Any, **keywords: Any) -> "Connection":
        self._stopwatch.timed(self._connection.execute)(*arguments, **keywords)
        return self

    def cursor(self) -> "Connection":
        return Connection(self._connection.cursor(), self._stopwatch)


def main(folder: str, url: str, concurrency: str, *account: str) -> int:
    logging.basicConfig(level=logging.ERROR)
    account_ = Account(*map(int, account))
    stopwatch = Stopwatch()
    duckdb.connect = stopwatch.connect  # type: ignore[assignment]
    options = {
        "rate": 0, "concurrency": concurrency, "since": str(account_.begins),
        "queues": list(account_.dataset.names), "account": "account 1", "key_changed": True,
    }  # fmt: skip
    variables = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": url}
    environment = config.Environment({**config.Environment.here().environ, **variables}, Path(folder))
    settings = config.load(options, account_.now, environment, needs_key=True)
    began = perf_counter()
    done = sync_account(settings, Clock(now=lambda: account_.now), lambda _: None)
    result = {
        "seconds": perf_counter() - began, "database": stopwatch.seconds, "calls": stopwatch.calls,
        "requests": done.requests,
        "lower_bound": done.lower_bound, "inserted": done.facts_inserted, "changed": done.facts_changed,
        "exit_code": done.exit_code,
    }  # fmt: skip
    print(json.dumps(result))
    return done.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
