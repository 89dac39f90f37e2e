"""Many accounts, several processes, one PostgreSQL, in a small form; ``make fleet`` is the large one."""

from pathlib import Path

import pytest

from tests.chaos import fleet

pytestmark = [pytest.mark.slow, pytest.mark.server]


def test_accounts_of_several_processes_of_which_some_are_killed_are_all_exact_and_none_is_left_out(
    tmp_path: Path,
) -> None:
    toll = fleet.run(tmp_path, accounts=10, days=8, queues=2, processes=2, kills=2, pause=1)
    assert (toll.wrong, toll.unfinished) == ((), ())
    assert toll.kills == 2
    bound = 2 * fleet.AT_ONCE * fleet.CONCURRENCY
    open_days = 4 * 3  # of an account whose sync is begun anew: four days, their totals and two queues
    assert toll.requests - toll.least <= toll.kills * (bound + fleet.AT_ONCE * open_days)
