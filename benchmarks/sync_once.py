"""One sync as a program of its own, at a fixed time, that says what it did: FOLDER URL CONCURRENCY DAYS QUEUES AT_ONCE NIGHT."""

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


class Watch:
    """Seconds that pass in the database, and how often it is entered."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    def over(self, owner: type, *names: str) -> None:
        """From now on these methods are counted."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name, lambda of, name=name: of.__getattr__(name)())))

    def _timed(self, method: Any) -> Any:
        def timed(*words: Any, **more: Any) -> Any:
            began = perf_counter()
            try:
                return method(*words, **more)
            finally:
                self.seconds += perf_counter() - began
                self.calls += 1

        return timed


def main(folder: str, url: str, concurrency: str, *account: str) -> int:
    logging.basicConfig(level=logging.ERROR)
    asked = Account(*map(int, account))
    watch = Watch()
    watch.over(duckdb_engine.CursorWrapper, "execute", "fetchall")
    watch.over(duckdb_engine.ConnectionWrapper, "close")
    watch.over(duckdb_engine.Dialect, "connect", "do_commit", "do_rollback")
    said = {
        "rate": 0, "concurrency": concurrency, "since": str(asked.begins), "queues": list(asked.dataset.names),
        "account": "account 1", "key_changed": True,
    }  # fmt: skip
    given = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": url}
    place = config.Environment({**config.Environment.here().environ, **given}, Path(folder))
    chosen = config.load(said, asked.now, place, needs_key=True)
    began = perf_counter()
    done = sync_account(chosen, Clock(now=lambda: asked.now), lambda _: None)
    told = {
        "seconds": perf_counter() - began, "database": watch.seconds, "calls": watch.calls, "requests": done.requests,
        "least": done.lower_bound, "inserted": done.facts_inserted, "changed": done.facts_changed, "exit_code": done.exit_code,
    }  # fmt: skip
    print(json.dumps(told))
    return done.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
