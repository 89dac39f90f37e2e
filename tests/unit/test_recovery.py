"""How responses that an earlier run left in its journal are grouped and judged."""

from datetime import UTC, datetime, timedelta

from etl.extract.planner import NONEXISTENT_MEMBERS
from etl.models import SPLIT_DIMENSIONS, TOTAL, Dimension, Outcome, SeriesKey, Snapshot, Window, queue
from etl.responses import Response, SuccessPayload
from etl.sync.recovery import groups_in_order
from etl.sync.request_loop import Received

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PROBE = NONEXISTENT_MEMBERS[Dimension.QUEUE]
ALL = frozenset(SPLIT_DIMENSIONS)
QUEUES = frozenset({Dimension.QUEUE})


def received(*series_keys: SeriesKey) -> list[Received]:
    """Responses in this order, all of one day."""
    found = []
    for number, series in enumerate(series_keys):
        window, at = Window.whole_day("default", series, NOON.date()), NOON + timedelta(seconds=number)
        snapshot = Snapshot(0, window, at, Outcome.SUCCESS)
        found.append(Received(Response(window, at, SuccessPayload()), snapshot, 0))
    return found


def grouped(left: list[Received], concurrency: int) -> list[tuple[list[str], frozenset[Dimension]]]:
    groups = groups_in_order(left, concurrency)
    return [([one.window.series.member or "*" for one in group], settled) for group, settled in groups]


def test_only_the_last_responses_can_be_of_a_run_that_is_uncertain_about_unknown_names() -> None:
    left = received(TOTAL, queue("A"), queue("B"), queue("C"))
    assert grouped(left, 2) == [(["*"], ALL), (["A"], ALL), (["B", "C"], frozenset())]
    assert grouped(left, 9) == [(["*"], frozenset()), (["A", "B", "C"], frozenset())]


def test_a_left_response_for_a_name_that_cannot_exist_settles_it_for_those_after_it() -> None:
    left = received(TOTAL, queue("A"), PROBE, queue("B"), queue("C"))
    assert grouped(left, 2) == [(["*"], ALL), (["A"], ALL), ([PROBE.member], ALL), (["B", "C"], QUEUES)]
    assert grouped(left, 4)[1:] == [(["A"], frozenset()), ([PROBE.member], frozenset()), (["B", "C"], QUEUES)]
