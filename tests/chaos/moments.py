"""Sync in a process that kills itself at a named moment of the journal, without a change to the program.

``python -m tests.chaos.moments MOMENT TIMES BATCH FOLDER URL NOW CONCURRENCY`` kills the sync when MOMENT comes for the
TIMES-th time; commits contain BATCH snapshots.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.engine.base import RootTransaction

from etl.extract import journal
from etl.load.state import SyncStateStore
from etl.load.upsert import Batch, LoadCounts
from etl.sync import account_sync, writer
from tests.e2e import sync_once
from tests.e2e.world import KEY, World

Received = tuple[datetime, str | None, datetime]
"""A response: the start and the name of its window, and the time of its request."""


class Moment(NamedTuple):
    """Before or after a call of ``owner.name`` whose first argument or result ``counts``."""

    owner: Any
    name: str
    is_after: bool = True
    counts: Callable[[Any, Any], bool] = lambda argument, result: True


@cache
def _delay_commits() -> None:
    commit = SyncStateStore.commit

    def commit_late(store: SyncStateStore, batch: Batch) -> LoadCounts:
        threading.Event().wait(5)  # and not for ever: the planner may be waiting for the commit
        return commit(store, batch)

    SyncStateStore.commit = commit_late  # type: ignore[method-assign,assignment]


_numbers: list[int] = []


def _first_segment(number: int) -> int:
    """The number of the first segment of this process. From then on, commits are late."""
    _delay_commits()
    _numbers.append(number)
    return _numbers[0]


def _is_segment(path: Path, _: object) -> bool:
    return ".journal." in path.name


HALF_WRITTEN = "a response is half written"
WRITTEN = "a response is in the journal"
CLOSED = "the segment is closed, its responses are not committed"
COMMITTED = "the responses are committed, the segment is there"
DELETED = "the segment is deleted"
TWO_SEGMENTS = "responses are in the next segment while those before are being committed"
FILE_OPEN = "the transaction is committed, the warehouse is not closed"
LEFT_READ = "the next sync has read what was left"
LEFT_HALF_TAKEN_IN = "the next sync takes in what was left"
LEFT_COMMITTED = "the next sync has committed what was left"
LEFT_HALF_DELETED = "the next sync has deleted one of two segments"

MOMENTS = {
    HALF_WRITTEN: Moment(journal, "_write"),
    WRITTEN: Moment(journal.Journal, "append"),
    CLOSED: Moment(SyncStateStore, "commit", is_after=False),
    COMMITTED: Moment(SyncStateStore, "commit"),
    DELETED: Moment(Path, "unlink", counts=_is_segment),
    TWO_SEGMENTS: Moment(journal.Journal, "append", counts=lambda _, segment: segment > _first_segment(segment)),
    FILE_OPEN: Moment(RootTransaction, "commit", counts=lambda *_: threading.current_thread().name == "writer"),
    LEFT_READ: Moment(account_sync, "usable_segments", counts=lambda _, left: bool(left)),
    LEFT_HALF_TAKEN_IN: Moment(writer.Writer, "submit"),
    LEFT_COMMITTED: Moment(SyncStateStore, "commit"),
    LEFT_HALF_DELETED: Moment(Path, "unlink", counts=_is_segment),
}
OF_THE_NEXT_SYNC = (LEFT_READ, LEFT_HALF_TAKEN_IN, LEFT_COMMITTED, LEFT_HALF_DELETED)
"""Moments before the first request of a sync that finds a journal."""


def kill_at(moment: str, times: int) -> None:
    """Kill this process when the moment comes for the ``times``-th time."""
    owner, name, is_after, counts = MOMENTS[moment]
    original, left = getattr(owner, name), [times]

    def replacement(*arguments: Any, **options: Any) -> Any:
        def count(result: object) -> None:
            left[0] -= counts(arguments[0], result)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        if moment == HALF_WRITTEN and left[0] == 1:
            arguments = (arguments[0], arguments[1][: len(arguments[1]) // 2])
        if not is_after:
            count(None)
        result = original(*arguments, **options)
        if is_after:
            count(result)
        return result

    setattr(owner, name, replacement)


def start(
    world: World, moment: str, times: int = 1, *, batch: int = 20, concurrency: int = 8, **variables: str
) -> "subprocess.Popen[str]":
    """Start a sync at the world's time that kills itself at the moment."""
    arguments = [moment, str(times), str(batch), str(world.folder), world.sandbox.url, world.now.isoformat()]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.moments", *arguments, str(concurrency)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env={**world.variables(KEY), **variables},
    )


def kill(world: World, moment: str, times: int = 1, **options: Any) -> None:
    """Let a sync kill itself at the moment. The world's time advances: the next sync has other times of requests."""
    with start(world, moment, times, **options) as process:
        stderr = process.communicate(timeout=120)[1]
    assert process.returncode == -signal.SIGKILL, (moment, process.returncode, stderr)
    world.now += timedelta(minutes=1)


def segments(world: World) -> list[Path]:
    """The files of the journal in the folder, those set aside too."""
    return sorted(path for path in world.folder.rglob("*.journal.*"))


def left(world: World) -> set[Received]:
    """The responses in the journal."""
    prefixes = {path.with_name(f"{path.name.partition('.journal.')[0]}.journal") for path in segments(world)}
    found = (
        response for prefix in prefixes for segment in journal.read_journals(prefix) for response in segment.responses
    )
    return {(one.window.start, one.window.series.member, one.requested_at) for one in found}


if __name__ == "__main__":
    kill_at(sys.argv[1], int(sys.argv[2]))
    writer.BATCH_SNAPSHOTS, writer.BATCH_SECONDS = int(sys.argv[3]), 3_600.0
    sys.exit(sync_once.main(*sys.argv[4:]))
