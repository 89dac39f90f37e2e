"""Snapshots get their numbers in the order of their commits, so that a kill between two commits leaves no gap."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from etl.sync.request_loop import Arrivals, RequestLoop
from etl.sync.writer import DayUpdate, Writer
from tests.e2e.world import World, small


def test_each_transaction_continues_the_numbers_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait, submit = RequestLoop.wait, Writer.submit
    numbers: list[list[int]] = []

    def wait_for_all(loop: RequestLoop) -> Arrivals:
        """All responses at once, with those of different days in turn."""
        arrivals = wait(loop)
        while loop.in_flight and not arrivals.error:
            more = wait(loop)
            arrivals.responses.extend(more.responses)
            threading.Event().wait(0.001)
        seen = Counter[date]()
        ranks = []
        for response in arrivals.responses:
            ranks.append((seen[response.window.day], response.window.day))
            seen[response.window.day] += 1
        in_turn = [
            response for _, response in sorted(zip(ranks, arrivals.responses, strict=True), key=lambda pair: pair[0])
        ]
        return replace(arrivals, responses=in_turn)

    def record(writer: Writer, updates: Sequence[DayUpdate], statuses: Sequence[object] = ()) -> None:
        numbers.append([update.snapshot.number for update in updates if update.snapshot])
        submit(writer, updates, statuses)  # type: ignore[arg-type]

    monkeypatch.setattr(RequestLoop, "wait", wait_for_all)
    monkeypatch.setattr(Writer, "submit", record)
    with World(tmp_path, small(days=20)) as world:
        assert world.sync().exit_code == 0
    in_order = [number for transaction in numbers for number in transaction]
    assert in_order == list(range(1, len(in_order) + 1))
    assert max(map(len, numbers)) > 1  # some transactions have several snapshots of a day
