"""A sync stopped by a person or a service manager reports it, keeps committed data and continues the next time."""

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


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sync_ends_with_130_keeps_committed_data_and_continues_next_time(
    tmp_path: Path, signal_number: signal.Signals
) -> None:
    now = datetime.now(UTC)
    dataset = Dataset.always_active(begins=now.date() - timedelta(days=20), queues=2)
    with World(tmp_path, dataset, Behaviour(latency_seconds=0.03, unknown_queue="zeros"), now=now) as world:
        with world.command("sync") as process:
            world.wait_for(process, 40)
            process.send_signal(signal_number)
            _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130, stderr
        assert "interrupted" in stderr
        assert "Traceback" not in stderr
        requests_before_stop = len(world.requests)
        saved = set(world.rows("select * from internal.snapshots"))
        assert len(saved) >= 40 - CONCURRENCY
        assert world.one("select exit_code from internal.runs") == 130

        with world.command("sync") as process:
            _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        assert saved <= set(world.rows("select * from internal.snapshots"))
        repeated = world.requested(requests_before_stop).keys() & windows(world.requests[:requests_before_stop]).keys()
        old = [window for window in repeated if window.start.date() < now.date() - timedelta(days=LOOKBACK)]
        assert len(old) <= CONCURRENCY
        assert world.hourly().items() >= world.expected_rows(until=now.date() - timedelta(days=1)).items()
