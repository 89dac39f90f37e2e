"""Limit the rate of requests: one limiter per API host, shared fairly by the accounts that use it.

With a warehouse on a server, the processes that use the server share the limit too, see ``SharedSchedule``.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from etl.clock import Clock

POLL_INTERVAL = 0.2
"""Seconds within which a waiting thread notices that it should stop."""


class Schedule(NamedTuple):
    """When the next request may start, and until when none may, in seconds of the monotonic clock."""

    next_at: float = 0.0
    paused_until: float = 0.0


def reserve(schedule: Schedule, now: float, interval: float) -> tuple[float, Schedule]:
    """Return the start of the next request, never before ``now``, and the new schedule. Idle time is not saved up."""
    start = max(now, schedule.next_at, schedule.paused_until)
    return start, schedule._replace(next_at=start + interval)


def wait_until(deadline: float, clock: Clock, is_stopped: Callable[[], bool]) -> bool:
    """Sleep until ``deadline``. Return False within POLL_INTERVAL seconds once ``is_stopped``."""
    while not is_stopped():
        left = deadline - clock.monotonic()
        if left <= 0:
            return True
        clock.sleep(min(left, POLL_INTERVAL))
    return False


class SharedSchedule(Protocol):
    """The schedule of an API host that several processes use together. It has a clock of its own."""

    def reserve(self, interval: float) -> float | None:
        """Seconds until the reserved start of a request; None if the schedule cannot be reached."""

    def pause(self, seconds: float) -> None:
        """Let no process start a request for ``seconds``."""

    def is_paused(self) -> bool:
        """Whether a pause has begun that has not ended."""


class RateLimiter:
    """Starts ``rate_per_second`` requests a second, evenly spaced and in the order the threads came; 0 = no limit."""

    def __init__(self, rate_per_second: float, clock: Clock) -> None:
        self._interval = 1.0 / rate_per_second if rate_per_second > 0 else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._schedule = Schedule()

    def acquire(self, is_stopped: Callable[[], bool]) -> bool:
        """Block until a request may start. Return False if stopped first."""
        while True:
            with self._lock:
                start, self._schedule = reserve(self._schedule, self._clock.monotonic(), self._interval)
            if not wait_until(start, self._clock, is_stopped):
                return False
            if start >= self._schedule.paused_until:  # otherwise a pause began meanwhile: wait for it too
                return True

    def pause(self, seconds: float) -> None:
        """Block all requests for ``seconds`` from now, including those that already wait."""
        with self._lock:
            paused_until = max(self._schedule.paused_until, self._clock.monotonic() + seconds)
            self._schedule = self._schedule._replace(paused_until=paused_until)


class SharedRateLimiter(RateLimiter):
    """Starts ``rate_per_second`` requests a second in all processes together that share a schedule.

    While the schedule cannot be reached, this process limits itself to the rate.
    """

    def __init__(self, rate_per_second: float, clock: Clock, shared: SharedSchedule) -> None:
        super().__init__(rate_per_second, clock)
        self._shared = shared

    def acquire(self, is_stopped: Callable[[], bool]) -> bool:
        """Block until a request may start. Return False if stopped first."""
        while True:
            seconds = self._shared.reserve(self._interval)
            if seconds is None:
                return super().acquire(is_stopped)
            if not wait_until(self._clock.monotonic() + seconds, self._clock, is_stopped):
                return False
            if seconds < POLL_INTERVAL or not self._shared.is_paused():  # a pause may have begun during a longer wait
                return True

    def pause(self, seconds: float) -> None:
        """Block all requests of all processes for ``seconds`` from now, including those that already wait."""
        super().pause(seconds)
        self._shared.pause(seconds)


class AccountRateLimiter:
    """One account's access to a ``shared`` limiter, after its ``own`` limiter if it has one.

    Only one thread of an account waits for the shared limiter at a time, so that accounts take turns however many
    threads each has.
    """

    def __init__(self, shared: RateLimiter, own: RateLimiter | None = None) -> None:
        self._shared = shared
        self._own = own
        self._in_queue = threading.Lock()

    def acquire(self, is_stopped: Callable[[], bool]) -> bool:
        """Block until a request may start. Return False if stopped first."""
        if self._own and not self._own.acquire(is_stopped):
            return False
        while not self._in_queue.acquire(timeout=POLL_INTERVAL):
            if is_stopped():
                return False
        try:
            return self._shared.acquire(is_stopped)
        finally:
            self._in_queue.release()

    def pause(self, seconds: float) -> None:
        """Block the requests of all accounts for ``seconds``, as the host demands."""
        self._shared.pause(seconds)
