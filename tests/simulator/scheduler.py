"""Run the threads of the program one at a time in virtual time: which one runs next is drawn from a seed.

A thread is a greenlet. It gives way only where it sleeps, waits, or passes a named moment, so a run is repeated exactly by
its seed.
"""

import math
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from greenlet import GreenletExit, getcurrent, greenlet  # type: ignore[import-untyped]

from etl.clock import Clock


class DeadlockError(AssertionError):
    """Every thread waits for another one."""


class Task(greenlet):  # type: ignore[misc]
    """One thread. ``ready`` says whether it may go on before ``wake``, the virtual second at which it goes on anyway."""

    def __init__(self, run: Callable[[], object], number: int) -> None:
        super().__init__(run)
        self.number = number
        self.wake = 0.0
        self.ready: Callable[[], bool] | None = None
        self.memo: dict[str, Any] = {}
        """What the simulator remembers about the thread's request."""


class Scheduler:
    """Virtual time and the threads that live in it.

    ``begins`` is the true time of second 0; ``clock_error`` is how much the machine's clock is ahead of it.
    """

    def __init__(self) -> None:
        self.clock = Clock(lambda: self.true_time + self.clock_error, lambda: self.seconds, self.sleep)
        self.begin(random.Random(0), datetime(2000, 1, 1, tzinfo=UTC))

    def begin(self, source: random.Random, begins: datetime) -> None:
        """Start again at second 0, without threads."""
        self.random = source
        self.begins = begins
        self.seconds = 0.0
        self.clock_error = timedelta(0)
        self._tasks: list[Task] = []
        self._number = 0
        self._hub = getcurrent()
        self.is_dead = False

    @property
    def true_time(self) -> datetime:
        return self.begins + timedelta(seconds=self.seconds)

    @property
    def current(self) -> Task:
        return cast("Task", getcurrent())

    def spawn(self, run: Callable[[], object]) -> Task:
        self._number += 1
        task = Task(run, self._number)
        task.parent = self._hub
        self._tasks.append(task)
        return task

    def run(self, main: Callable[[], object]) -> object:
        """Run ``main`` to its end, and with it everything it starts. Raises what ``main`` raises and what ``kill`` is given."""
        self._hub = getcurrent()
        results: list[object] = []
        first = self.spawn(lambda: results.append(main()))
        try:
            while not first.dead:
                self._next().switch()
                self._tasks = [task for task in self._tasks if not task.dead]
        finally:
            self._abandon()
        return results[0]

    def _next(self) -> Task:
        while True:
            now = self.seconds
            ready = [task for task in self._tasks if task.wake <= now or (task.ready and task.ready())]
            if ready:
                return ready[0] if len(ready) == 1 else self.random.choice(ready)
            self.seconds = min(task.wake for task in self._tasks)
            if self.seconds == math.inf:
                raise DeadlockError("every thread waits for another one")

    def _abandon(self) -> None:
        """End all threads where they are, as a killed process ends; what they still do must have no effect."""
        self.is_dead = True
        for task in reversed(self._tasks):
            while not task.dead:
                task.parent = getcurrent()
                with suppress(BaseException):  # the run is over
                    task.throw(GreenletExit)
        self._tasks = []

    def kill(self, reason: BaseException) -> None:
        """End the run at once, wherever it is."""
        self._hub.throw(reason)

    # -- what the threads call

    def sleep(self, seconds: float) -> None:
        self._give_way(None, self.seconds + max(seconds, 0.0))

    def give_way(self) -> None:
        """Let other threads run that are ready."""
        self._give_way(None, self.seconds)

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until ``ready``, at most ``timeout`` seconds; return whether it is."""
        if self.is_dead:
            raise GreenletExit
        if ready():
            return True
        self._give_way(ready, math.inf if timeout is None else self.seconds + timeout)
        return ready()

    def _give_way(self, ready: Callable[[], bool] | None, wake: float) -> None:
        if self.is_dead:
            raise GreenletExit
        task = self.current
        task.ready, task.wake = ready, wake
        self._hub.switch()
        task.ready, task.wake = None, 0.0
