"""Log lines on stderr, as text for people or as one JSON object a line for machines. Times are UTC."""

import json
import logging
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Protocol

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_ABOUT: ContextVar[Mapping[str, object]] = ContextVar("about", default=MappingProxyType({}))

MOST = 100
"""Warnings of one kind that a run says in full: a service that fails all night fills no disk."""


def about(**fields: object) -> None:
    """What JSON lines carry from here to the end of this context (``Context().run``), in place of what they carried.

    A thread begins with nothing, so that accounts side by side do not meet; one that works for this context is started by
    ``copy_context().run``.
    """
    _ABOUT.set(fields)


class RateLimitedLogger:
    """The warnings of one kind of one run: the first ``MOST`` are said, the others only at debug level. From any thread."""

    def __init__(self, log: logging.Logger, kind: str) -> None:
        self._log = log
        self._kind = kind
        self._counting = threading.Lock()
        self._met = 0

    def warning(self, message: str, *words: object, extra: dict[str, object]) -> None:
        with self._counting:
            self._met += 1
            met = self._met
        if met == MOST + 1:
            self._log.warning(
                "%d %s were told of; further ones are counted only, --verbose tells of all", MOST, self._kind
            )
        self._log.log(logging.WARNING if met <= MOST else logging.DEBUG, message, *words, extra=extra)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Not what libraries say when Ctrl-C meets them: the program itself says that it was interrupted."""
    return not (record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt))


class TextStream(Protocol):
    """Where lines go: a stream, or what stands in front of one."""

    def write(self, text: str, /) -> int: ...
    def flush(self) -> None: ...


class TextFormatter(logging.Formatter):
    """``2026-11-22T16:03:00Z info     held 30 of 120 days``; of accounts ``fleet`` with ``[shop] `` before the message."""

    def __init__(self, *, fleet: bool = False) -> None:
        super().__init__()
        self._side_by_side = fleet

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        account = _ABOUT.get().get("account") if self._side_by_side else None
        whose = f"[{account}] " if account else ""
        return f"{_time(record)} {record.levelname.lower():<8} {whose}{record.message}"


class JsonFormatter(logging.Formatter):
    """One object a line: ``time``, ``level``, ``logger``, ``message``, what ``about`` and ``extra`` gave, and ``exception`` where
    there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        line["message"] = record.getMessage()
        line |= {**_ABOUT.get(), **{name: value for name, value in vars(record).items() if name not in _OWN}}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(sink: TextStream, *, form: str, quiet: bool, verbose: bool, fleet: bool = False) -> None:
    """Send this program's log lines to ``sink``: errors when quiet, everything when verbose. Of libraries, warnings only. Those of
    accounts ``fleet`` say whose they are.

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
    handler.addFilter(_is_worth_telling)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(fleet=fleet))
    root.addHandler(handler)
    logging.captureWarnings(capture=True)
