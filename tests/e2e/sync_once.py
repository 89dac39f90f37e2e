"""Run one sync at a fixed time in a process that tests can kill. Arguments: FOLDER URL NOW CONCURRENCY."""

import logging
import sys
from datetime import datetime
from pathlib import Path

from etl import config
from etl.clock import Clock
from etl.errors import AppError
from etl.sync.run import sync_account


def main(folder: str, url: str, now_text: str, concurrency: str) -> int:
    logging.basicConfig(level=logging.ERROR)
    now = datetime.fromisoformat(now_text)
    variables = {**config.Environment.here().environ, "ANTICAPTCHA_API_URL": url}
    options = {"rate": 0, "concurrency": concurrency, "empty_days": 30}
    settings = config.load(options, now, config.Environment(variables, Path(folder)), needs_key=True)
    try:
        return sync_account(settings, Clock(now=lambda: now), lambda progress: None).exit_code
    except AppError as error:
        print(error.message, error.hint, sep="\n", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
