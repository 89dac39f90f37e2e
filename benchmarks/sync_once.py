"""Run one sync at a fixed time and print what it did. Arguments: FOLDER URL CONCURRENCY DAYS QUEUES AT_ONCE NIGHT."""

import json
import logging
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb_engine

from benchmarks.service import Account
from etl import config
from etl.clock import Clock
from etl.sync.run import sync_account

KEY = "5e1f0c2b9a8d47630123456789abcdef"


class Stopwatch:
    """Counts seconds in the database, and calls."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    def watch(self, owner: type, *names: str) -> None:
        """Count these methods from now on."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name, lambda of, name=name: of.__getattr__(name)())))

    def _timed(self, method: Any) -> Any:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            began = perf_counter()
            try:
                return method(*arguments, **keywords)
            finally:
                self.seconds += perf_counter() - began
                self.calls += 1

        return timed


def main(folder: str, url: str, concurrency: str, *account: str) -> int:
    logging.basicConfig(level=logging.ERROR)
    account_ = Account(*map(int, account))
    stopwatch = Stopwatch()
    stopwatch.watch(duckdb_engine.CursorWrapper, "execute", "fetchall")
    stopwatch.watch(duckdb_engine.ConnectionWrapper, "close")
    stopwatch.watch(duckdb_engine.Dialect, "connect", "do_commit", "do_rollback")
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
