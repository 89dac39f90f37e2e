"""Log lines on stderr: text for people, or one JSON object per line for machines. Times are UTC."""

import json
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import count
from types import MappingProxyType
from typing import Protocol

_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_CONTEXT: ContextVar[Mapping[str, object]] = ContextVar("log_context", default=MappingProxyType({}))

MAX_WARNINGS = 100
"""Warnings of one kind that a sync logs, so that an API failing all night does not fill the disk."""


def bind_log_context(**fields: object) -> None:
    """Replace the fields that log lines carry in this context.

    New threads start without fields, so accounts running in parallel do not mix; ``copy_context().run`` passes them on.
    """
    _CONTEXT.set(fields)


class RateLimitedLogger:
    """Logs the first MAX_WARNINGS warnings of one kind; further ones at debug level only. Thread-safe."""

    def __init__(self, log: logging.Logger, kind: str) -> None:
        self._log = log
        self._kind = kind
        self._numbers = count(1)

    def warning(self, message: str, *args: object, extra: dict[str, object]) -> None:
        number = next(self._numbers)
        if number == MAX_WARNINGS + 1:
            self._log.warning(
                "logged %d %s; further ones are suppressed (--verbose shows all)", MAX_WARNINGS, self._kind
            )
        self._log.log(logging.WARNING if number <= MAX_WARNINGS else logging.DEBUG, message, *args, extra=extra)


def _format_time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_not_interrupt(record: logging.LogRecord) -> bool:
    """Drop what libraries log about Ctrl-C; the program reports it itself."""
    return not (record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt))


class TextStream(Protocol):
    """What log lines are written to."""

    def write(self, text: str, /) -> int: ...
    def flush(self) -> None: ...


class TextFormatter(logging.Formatter):
    """``2026-11-22T16:03:00Z info     30 of 120 days``; with ``fleet``, ``[shop] `` stands before the message."""

    def __init__(self, *, fleet: bool = False) -> None:
        super().__init__()
        self._fleet = fleet

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is logging's
        account = _CONTEXT.get().get("account") if self._fleet else None
        prefix = f"[{account}] " if account else ""
        return f"{_format_time(record)} {record.levelname.lower():<8} {prefix}{record.message}"


class JsonFormatter(logging.Formatter):
    """One object per line: time, level, logger, message, the bound context, ``extra`` and any exception."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _format_time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_CONTEXT.get(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(sink: TextStream, *, form: str, quiet: bool, verbose: bool, fleet: bool = False) -> None:
    """Send log lines to ``sink``: errors when quiet, everything when verbose; of libraries only warnings.

    ``form`` is ``text`` or ``json``; ``fleet`` puts the account before each message. A later call replaces the
    earlier one.
    """
    own = logging.getLogger("etl")
    own.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    root = logging.getLogger()
    root.setLevel(logging.ERROR if quiet else logging.WARNING)
    for handler in [handler for handler in root.handlers if handler.name == __name__]:
        root.removeHandler(handler)
    handler = logging.StreamHandler(sink)
    handler.name = __name__
    handler.addFilter(_is_not_interrupt)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(fleet=fleet))
    root.addHandler(handler)
    logging.captureWarnings(capture=True)
