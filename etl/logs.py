"""Log lines on stderr, as text for people or as one JSON object a line for machines. Times are UTC."""

import json
import logging
from datetime import UTC, datetime
from typing import Protocol

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Sink(Protocol):
    """Where lines go: a stream, or what stands in front of one."""

    def write(self, text: str, /) -> int: ...
    def flush(self) -> None: ...


class TextFormatter(logging.Formatter):
    """``2026-11-22T16:03:00Z info     held 30 of 120 days``"""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        return f"{_time(record)} {record.levelname.lower():<8} {record.message}"


class JsonFormatter(logging.Formatter):
    """One object a line: ``time``, ``level``, ``logger``, ``message``, what ``extra`` gave, and ``exception`` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up(sink: Sink, *, form: str, quiet: bool, verbose: bool) -> None:
    """Send this program's log lines to ``sink``: errors when quiet, everything when verbose. Of libraries, warnings only.

    May be called again: the last call holds.
    """
    own = logging.getLogger("etl")
    own.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    root = logging.getLogger()
    root.setLevel(logging.ERROR if quiet else logging.WARNING)
    for handler in [handler for handler in root.handlers if handler.name == __name__]:
        root.removeHandler(handler)
    handler = logging.StreamHandler(sink)
    handler.name = __name__
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root.addHandler(handler)
    logging.captureWarnings(capture=True)
