"""Three of ten responses fail, each in another way: the history is still complete and exact, for few extra requests."""

from functools import partial
from pathlib import Path

import pytest

from etl.extract.client import Client
from etl.sandbox.behaviour import Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.sync import run as sync_run
from tests.e2e.faults import SHORT_TIMEOUTS
from tests.e2e.world import World, ago

FAILING_SHARE = 0.3
MAX_REQUEST_RATIO = 1.6
"""Limit as a multiple of the requests of the same backfill without faults; with 30 % failing the minimum is 1 / 0.7 = 1.43."""

NOT_FAILING = {
    # end the sync, the name or the window by design, without a retry
    FaultKind.REDIRECT, FaultKind.REFUSE_KEY, FaultKind.IP_BLOCKED, FaultKind.SUSPENDED, FaultKind.IP_NOT_ALLOWED,
    FaultKind.ZERO_BALANCE, FaultKind.ACCESS_DENIED,
    # look like successful responses: a refund, a day without spend, a zero written as text
    FaultKind.NEGATIVE, FaultKind.NULL_DATA, FaultKind.NO_DATA, FaultKind.ERROR_ID_STRING,
}  # fmt: skip
KINDS = [kind for kind in FaultKind if kind not in NOT_FAILING]


def _equal_shares() -> tuple[Fault, ...]:
    """Return one fault per kind so that all kinds together hit ``FAILING_SHARE`` of all requests, in equal shares. A fault only
    applies to requests that the faults before it left alone."""
    share = FAILING_SHARE / len(KINDS)
    return tuple(Fault(kind, rate=share / (1 - position * share), seconds=1) for position, kind in enumerate(KINDS))


@pytest.mark.parametrize("days", [pytest.param(91, marks=pytest.mark.slow), pytest.param(365, marks=pytest.mark.long)])
def test_a_history_with_three_of_ten_responses_failing_is_exact_in_at_most_1_6_times_the_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    monkeypatch.setattr(sync_run, "Client", partial(Client, timeouts=SHORT_TIMEOUTS))
    dataset = Dataset.always_active(begins=ago(days - 1), queues=5)
    with World(tmp_path, dataset, faults=_equal_shares()) as world:
        codes = [world.sync(empty_days=90, concurrency=16).exit_code]
        while codes[-1] == 1 and len(codes) < 6:
            codes.append(world.sync(empty_days=90, concurrency=16).exit_code)
        assert codes[-1] == 0
        assert world.hourly() == world.expected_rows()
        assert world.days("failed") == set()
        failed_requests = [request.fault for request in world.requests if request.fault]
        assert set(failed_requests) == set(KINDS)
        assert len(failed_requests) > 0.27 * len(world.requests)
        assert len(world.requests) <= MAX_REQUEST_RATIO * _minimum_requests(world)


def _minimum_requests(world: World) -> int:
    """Return the minimum number of requests without faults: the days with their queues, and the days before the first
    spend."""
    return (
        len({(queue, hour.date()) for queue, hour in world.expected_rows()})
        + len({hour.date() for _, hour in world.expected_rows()})
        + 90
    )
