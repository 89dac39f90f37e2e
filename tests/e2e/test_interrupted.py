"""A sync that a person or a service manager stops: it says so, keeps what it had and goes on the next time."""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl.sandbox.behaviour import Behaviour
from etl.sandbox.dataset import Dataset
from tests.e2e.world import LOOKBACK, World, windows

pytestmark = pytest.mark.contract

CONCURRENCY = 4
"""The default."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sync_is_exit_code_130_keeps_what_was_committed_and_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    now = datetime.now(UTC)
    dataset = Dataset.busy(begins=now.date() - timedelta(days=20), queues=2)
    with World(tmp_path, dataset, Behaviour(latency_seconds=0.03, unknown_queue="zeros"), now=now) as world:
        with world.command("sync") as process:
            world.wait_for(process, 40)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "interrupted" in said
        assert "Traceback" not in said
        stopped = len(world.requests)
        kept = set(world.rows("select * from internal.snapshots"))
        assert len(kept) >= 40 - 2 * CONCURRENCY
        assert world.one("select exit_code from internal.runs") == 130

        with world.command("sync") as process:
            _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert kept <= set(world.rows("select * from internal.snapshots"))
        again = world.requested(stopped).keys() & windows(world.requests[:stopped]).keys()
        old = [window for window in again if window.start.date() < now.date() - timedelta(days=LOOKBACK)]
        assert len(old) <= 2 * CONCURRENCY
        assert world.hourly().items() >= world.expected_rows(until=now.date() - timedelta(days=1)).items()
