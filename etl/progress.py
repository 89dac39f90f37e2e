"""How far a sync is: one line that is redrawn on a terminal, a log line now and then elsewhere."""

import logging
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO, TypeVar

if TYPE_CHECKING:
    from etl.sync.results import FleetProgress, Progress

log = logging.getLogger(__name__)

DRAW_SECONDS = 0.1
LINE_SECONDS = 10.0


def span(seconds: float) -> str:
    """``42 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe(progress: "Progress") -> str:
    """One sentence for both kinds of reader."""
    days = (
        f"{progress.days_done:,}"
        if progress.days_planned is None
        else f"{progress.days_done:,} of {progress.days_planned:,}"
    )
    parts = [f"{days} day{'' if days == '1' else 's'}", *_counts(progress)]
    if progress.day:
        parts.insert(0, f"{progress.day}")
    if progress.seconds_left is not None:
        parts.append(f"about {span(progress.seconds_left)} left")
    return " · ".join(parts)


def describe_all(progress: "FleetProgress") -> str:
    """The same of accounts side by side."""
    done = f"{progress.accounts_done:,} of {progress.accounts:,} account{'' if progress.accounts == 1 else 's'}"
    return " · ".join([done, *_counts(progress)])


def _counts(progress: "Progress | FleetProgress") -> list[str]:
    return [
        f"{progress.requests:,} request{'' if progress.requests == 1 else 's'}",
        f"{progress.facts:,} row{'' if progress.facts == 1 else 's'}",
        f"${progress.money:,.2f}",
    ]


class StatusLine:
    """A terminal whose last line is redrawn. What is written through it appears above that line."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._drawn = ""

    def draw(self, text: str) -> None:
        self._drawn = text[: shutil.get_terminal_size().columns - 1]
        self._terminal.write(f"\r\x1b[2K{self._drawn}")
        self._terminal.flush()

    def write(self, text: str) -> int:
        """Text of whole lines, as a log handler writes it: the drawn line gives way and comes back below."""
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


Far = TypeVar("Far")


def terminal_reporter(
    line: StatusLine, monotonic: Callable[[], float], told: Callable[[Far], str]
) -> Callable[[Far], None]:
    """Redraws ``line``, at most ten times a second. ``monotonic`` are seconds that never go backward."""
    next_draw = monotonic()

    def watch(progress: Far) -> None:
        nonlocal next_draw
        if monotonic() >= next_draw:
            next_draw = monotonic() + DRAW_SECONDS
            line.draw(told(progress))

    return watch


def log_reporter(
    monotonic: Callable[[], float], told: Callable[[Far], str], steps: Callable[[Far], int]
) -> Callable[[Far], None]:
    """Logs a line every ten seconds in which ``steps`` were made, days finished for instance."""
    said_at, said_steps = monotonic(), 0

    def watch(progress: Far) -> None:
        nonlocal said_at, said_steps
        if monotonic() - said_at >= LINE_SECONDS and steps(progress) != said_steps:
            said_at, said_steps = monotonic(), steps(progress)
            log.info("%s", told(progress))

    return watch
