"""Three of ten answers fail, each in another way: the history is complete and exact all the same, and costs little
more."""

from functools import partial
from pathlib import Path

import pytest

from etl.extract.client import Client
from etl.sandbox.behaviour import Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.sync import run as sync_run
from tests.e2e.faults import IMPATIENT
from tests.e2e.world import World, ago

PART = 0.3
MOST = 1.6
"""Times the requests of the same backfill without faults. With 30 % failing, 1 / 0.7 = 1.43 is what cannot be done
without."""

NOT_FAILING = {
    # end the account, the name or the window, by design: nothing is asked again
    FaultKind.REDIRECT, FaultKind.REFUSE_KEY, FaultKind.IP_BLOCKED, FaultKind.SUSPENDED, FaultKind.IP_NOT_ALLOWED,
    FaultKind.ZERO_BALANCE, FaultKind.ACCESS_DENIED,
    # are good answers to all that can be seen: a refund, a day without spend, a zero written as text
    FaultKind.NEGATIVE, FaultKind.NULL_DATA, FaultKind.NO_DATA, FaultKind.ERROR_ID_STRING,
}  # fmt: skip
KINDS = [kind for kind in FaultKind if kind not in NOT_FAILING]


def _equal_shares() -> tuple[Fault, ...]:
    """Each strikes what those before it left, so that all kinds together are ``PART`` of all answers, in equal
    shares."""
    share = PART / len(KINDS)
    return tuple(Fault(kind, rate=share / (1 - place * share), seconds=1) for place, kind in enumerate(KINDS))


@pytest.mark.parametrize("days", [pytest.param(91, marks=pytest.mark.slow), pytest.param(365, marks=pytest.mark.long)])
def test_a_history_of_which_three_answers_of_ten_fail_is_exact_in_at_most_1_6_times_the_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    monkeypatch.setattr(sync_run, "Client", partial(Client, timeouts=IMPATIENT))
    dataset = Dataset.busy(begins=ago(days - 1), queues=5)
    with World(tmp_path, dataset, faults=_equal_shares()) as world:
        codes = [world.sync(empty_days=90, concurrency=16).exit_code]
        while codes[-1] == 1 and len(codes) < 6:
            codes.append(world.sync(empty_days=90, concurrency=16).exit_code)
        assert codes[-1] == 0
        assert world.hourly() == world.expected_rows()
        assert world.days("failed") == set()
        struck = [request.fault for request in world.requests if request.fault]
        assert set(struck) == set(KINDS)
        assert len(struck) > 0.27 * len(world.requests)
        assert len(world.requests) <= MOST * _undisturbed(world)


def _undisturbed(world: World) -> int:
    """The fewest requests that read this history without faults: days with their queues, and those before the first
    spend."""
    return (
        len({(queue, hour.date()) for queue, hour in world.expected_rows()})
        + len({hour.date() for _, hour in world.expected_rows()})
        + 90
    )
