"""Show how far a sync is: one line that is redrawn on a terminal, an occasional log line elsewhere."""

import logging
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO, TypeVar

from etl.outputs.serialize import as_json, plain
from etl.sync.summary import count

if TYPE_CHECKING:
    from etl.sync.results import FleetProgress, Progress

log = logging.getLogger(__name__)

ProgressT = TypeVar("ProgressT")

DRAW_SECONDS = 0.1

FIRST_LOG_SECONDS, MAX_LOG_SECONDS = 10.0, 60.0
"""The pause between log lines doubles from the first to the second: a sync of five minutes logs six lines."""


def format_duration(seconds: float) -> str:
    """Return ``42 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe(progress: "Progress") -> str:
    """Describe one account's progress in one line."""
    if progress.days_planned is not None:
        days = f"{progress.days_done:,} of {count(progress.days_planned, 'day')}"
        days += f" ({progress.days_done * 100 // progress.days_planned} %)" if progress.days_planned else ""
    else:
        days = count(progress.days_done, "day")
    parts = [f"back to {progress.day}"] if progress.day else []
    parts += [days, *_counts(progress)]
    if progress.days_planned is None:
        without = f"{progress.days_without_spend} of {count(progress.empty_days, 'day')} without spend"
        parts.append(without if progress.days_without_spend else "still searching for the first day")
    if progress.seconds_left is not None:
        parts.append(f"about {format_duration(progress.seconds_left)} left")
    return " · ".join(parts)


def describe_fleet(progress: "FleetProgress") -> str:
    """Describe the progress of all accounts in one line."""
    done = f"{progress.accounts_done:,} of {count(progress.accounts, 'account')}"
    return " · ".join([done, *_counts(progress)])


def _counts(progress: "Progress | FleetProgress") -> list[str]:
    rate = f" ({progress.requests / progress.seconds:.1f}/s)" if progress.requests and progress.seconds >= 1 else ""
    return [
        count(progress.requests, "request") + rate,
        count(progress.hourly_values, "new value"),
        f"${progress.money:,.2f}",
    ]


class ProgressLine:
    """A terminal whose last line is redrawn. Text written through it appears above that line."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._drawn = ""

    def draw(self, text: str) -> None:
        self._drawn = text[: shutil.get_terminal_size().columns - 1]
        self._terminal.write(f"\r\x1b[2K{self._drawn}")
        self._terminal.flush()

    def write(self, text: str) -> int:
        """Write whole lines above the drawn line; a log handler's stream."""
        erase, redraw = ("\r\x1b[2K", self._drawn if text.endswith("\n") else "") if self._drawn else ("", "")
        self._terminal.write(f"{erase}{text}{redraw}")
        return len(text)

    def flush(self) -> None:
        self._terminal.flush()

    def erase(self) -> None:
        """Leave the terminal as if nothing had been drawn."""
        if self._drawn:
            self._drawn = ""
            self._terminal.write("\r\x1b[2K")
            self._terminal.flush()


def terminal_reporter(
    line: ProgressLine, monotonic: Callable[[], float], describe: Callable[[ProgressT], str]
) -> Callable[[ProgressT], None]:
    """Return a callback that redraws ``line`` at most ten times a second."""
    next_draw = monotonic()

    def report(progress: ProgressT) -> None:
        nonlocal next_draw
        if monotonic() >= next_draw:
            next_draw = monotonic() + DRAW_SECONDS
            line.draw(describe(progress))

    return report


def json_reporter(stream: TextIO | ProgressLine, monotonic: Callable[[], float]) -> Callable[[ProgressT], None]:
    """Return a callback that writes the progress as a line of JSON, at most once a second."""
    next_line = monotonic()

    def report(progress: ProgressT) -> None:
        nonlocal next_line
        if monotonic() >= next_line:
            next_line = monotonic() + 1
            stream.write(as_json({"progress": plain(progress)}) + "\n")
            stream.flush()

    return report


def log_reporter(
    monotonic: Callable[[], float], describe: Callable[[ProgressT], str], steps: Callable[[ProgressT], int]
) -> Callable[[ProgressT], None]:
    """Return a callback that logs a line now and then, if ``steps`` (such as days done) changed since the last one."""
    pause, last_steps = FIRST_LOG_SECONDS, 0
    next_log = monotonic() + pause

    def report(progress: ProgressT) -> None:
        nonlocal pause, next_log, last_steps
        if monotonic() >= next_log and steps(progress) != last_steps:
            pause, last_steps = min(2 * pause, MAX_LOG_SECONDS), steps(progress)
            next_log = monotonic() + pause
            log.info("%s", describe(progress))

    return report
