"""Fetch windows in a pool of threads, parse their responses there, and hand them to one thread."""

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from etl.extract.client import Cancelled, Client
from etl.extract.journal import Journal
from etl.extract.rate_limit import POLL_INTERVAL
from etl.load.upsert import compress
from etl.models import Snapshot, Window
from etl.responses import Response


class Received(NamedTuple):
    """A response and its snapshot, which has no number yet, parsed with the ``hour_offset`` known at that time.

    ``segment`` is the journal segment that has the response.
    """

    response: Response
    snapshot: Snapshot
    hour_offset: int | None
    segment: int | None = None

    @property
    def window(self) -> Window:
        return self.response.window


_Event = Received | BaseException | None
"""A response, a cancelled window, an error, or None after a commit, which allows further requests."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The responses that have arrived. ``error`` ends the run."""

    responses: list[Received]
    error: BaseException | None


class RequestLoop:
    """Requests windows from ``concurrency`` threads. ``cancelled`` is set by another thread to stop the sync."""

    def __init__(
        self,
        client: Client,
        concurrency: int,
        parse: Callable[[Response], Received],
        journal: Journal | None,
        cancelled: threading.Event,
    ) -> None:
        self._client = client
        self._parse = parse
        self._journal = journal
        self._cancelled = cancelled
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="request")
        self.in_flight = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type:
            self._client.stop()  # otherwise the pool would wait for the responses
        self._pool.shutdown()

    def send(self, windows: Iterable[Window], final_codes: frozenset[str]) -> None:
        """Request windows. API errors with a code in ``final_codes`` are not retried."""
        for window in windows:
            self.in_flight += 1
            future = self._pool.submit(copy_context().run, self._fetch, window, final_codes)
            future.add_done_callback(self._put)

    def notify(self, error: BaseException | None) -> None:
        """Wake the thread in ``wait``: after a commit, or with the writer's error."""
        self._events.put(error)

    def wait(self) -> Arrivals:
        """Return what has arrived, after at most POLL_INTERVAL seconds.

        ``error`` is a KeyboardInterrupt if another thread has cancelled the sync.
        """
        was_cancelled = self._cancelled.is_set()
        events: list[_Event] = []
        with suppress(queue.Empty):
            events.append(self._events.get(timeout=0 if was_cancelled else POLL_INTERVAL))
            while True:
                events.append(self._events.get_nowait())
        responses = [event for event in events if isinstance(event, Received)]
        cancelled = [event for event in events if isinstance(event, Cancelled)]
        self.in_flight -= len(responses) + len(cancelled)
        errors = (event for event in events if isinstance(event, BaseException) and not isinstance(event, Cancelled))
        return Arrivals(responses, next(errors, KeyboardInterrupt() if was_cancelled else None))

    def _fetch(self, window: Window, final_codes: frozenset[str]) -> Received:
        """Runs in a pool thread. A response counts as received once it is in the journal."""
        received: Received | None = None

        def is_usable(response: Response) -> bool:
            nonlocal received
            received = self._parse(response)
            return received.snapshot.is_success

        response = self._client.fetch(window, final_codes, is_usable)
        if received is None or received.response is not response:
            received = self._parse(response)
        body = compress(response.body)
        segment = self._journal.append(replace(response, compressed_body=body)) if self._journal else None
        return received._replace(snapshot=replace(received.snapshot, compressed_body=body), segment=segment)

    def _put(self, future: "Future[Received]") -> None:
        self._events.put(future.exception() or future.result())
