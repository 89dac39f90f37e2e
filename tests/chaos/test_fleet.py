"""Many accounts synced by several processes into one PostgreSQL, in a small form; ``make fleet`` is the large one."""

from pathlib import Path

import pytest

from tests.chaos import fleet

pytestmark = [pytest.mark.slow, pytest.mark.server]


def test_all_accounts_are_exact_although_processes_are_killed(
    tmp_path: Path,
) -> None:
    result = fleet.run(tmp_path, accounts=10, days=8, queues=2, processes=2, kills=2, pause=1)
    assert (result.wrong, result.unfinished) == ((), ())
    assert result.kills == 2
    repeats_per_kill = 2 * fleet.ACCOUNTS_AT_ONCE * fleet.CONCURRENCY
    restarted_windows = 4 * 3  # for an account whose sync restarts: four days with their totals and two queues
    assert result.requests - result.minimum_requests <= result.kills * (
        repeats_per_kill + fleet.ACCOUNTS_AT_ONCE * restarted_windows
    )
