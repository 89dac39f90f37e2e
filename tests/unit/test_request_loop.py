"""The loop that hands responses of request threads to one thread."""

import threading
from datetime import UTC, date, datetime
from typing import cast

from etl.extract.client import Client
from etl.models import TOTAL, Outcome, Snapshot, Window
from etl.responses import Response, SuccessPayload
from etl.sync.request_loop import Received, RequestLoop

WINDOW = Window.whole_day("default", TOTAL, date(2026, 11, 2))


class InstantClient:
    """Returns a response at once."""

    def fetch(self, window: Window, *_: object) -> Response:
        return Response(window, datetime(2026, 11, 3, tzinfo=UTC), SuccessPayload(()))

    def stop(self) -> None:
        pass


def received(response: Response) -> Received:
    return Received(response, Snapshot(1, response.window, response.requested_at, Outcome.SUCCESS), 0)


def test_responses_that_arrived_before_a_cancel_are_returned() -> None:
    cancelled = threading.Event()
    with RequestLoop(cast("Client", InstantClient()), 2, received, None, cancelled) as loop:
        loop.send([WINDOW], frozenset())
        first = loop.wait()
        loop.send([WINDOW], frozenset())
        loop._pool.shutdown(wait=True)  # the second response waits in the queue
        cancelled.set()
        second = loop.wait()
    assert (len(first.responses), first.error) == (1, None)
    assert len(second.responses) == 1
    assert isinstance(second.error, KeyboardInterrupt)
    assert loop.in_flight == 0
