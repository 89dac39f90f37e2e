"""Load generated snapshots with the ETL's own writer. Arguments: FOLDER DAYS QUEUES.

Each day is reconciled once. The printed ``made`` is the time to make the snapshots, which is not part of loading.
"""

import json
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter

from benchmarks.history import NOW
from etl.clock import Clock
from etl.hour_values import FactValues, HourValues
from etl.load.accounts import open_account
from etl.load.state import SyncStateStore
from etl.load.upsert import CoverageRow
from etl.models import TOTAL, MemberStatus, Outcome, SeriesKey, Snapshot, Window, queue
from etl.secret import Secret
from etl.sync.initial_state import AccountProfile
from etl.sync.writer import DayUpdate, Writer
from etl.transform.reconcile import DaySnapshots, empty_day, reconcile
from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.migrate import upgrade

MAX_WAITING = 2_000
DAYS_PER_READ = 31
"""Days whose stored facts are read in one query."""


def volume(day: int, queue: int, hour: int) -> int:
    """Return the tasks of an hour: pseudo-random, at most 4,000."""
    return 1 + (day * 7919 + queue * 104_729 + hour * 1_299_709) * 2_654_435_761 % 4_294_967_296 // 1_073_742


def price(queue: int) -> int:
    """Return the price of a task in millionths of a US dollar."""
    return 500 + queue * 37


def day_snapshots(day: date, number: int, names: list[SeriesKey], requested_at: datetime) -> list[Snapshot]:
    """Return the snapshot of the total, then of every queue."""
    volumes = [[volume(day.toordinal(), position, hour) for hour in range(24)] for position in range(len(names))]
    moneys = [[count * price(position) for count in counts] for position, counts in enumerate(volumes)]
    rows = [(TOTAL, list(map(sum, zip(*volumes, strict=True))), list(map(sum, zip(*moneys, strict=True))))]
    rows += zip(names, volumes, moneys, strict=True)
    return [
        Snapshot(
            number + position,
            Window.whole_day("bulk", series, day),
            requested_at,
            Outcome.SUCCESS,
            HourValues(tuple(counts), tuple(paid * 1_000 for paid in paids)),
            0,
        )
        for position, (series, counts, paids) in enumerate(rows)
    ]


def main(folder: str, days: str, queues: str) -> None:
    names = [queue(f"Queue {number}") for number in range(1, int(queues))]
    engine = open_warehouse(warehouse_url(str(Path(folder) / "warehouse.duckdb")))
    upgrade(engine)
    with engine.connect() as connection:
        account = open_account(connection, "bulk", Secret("any key"), NOW)
    profile = AccountProfile(
        hour_offset_seconds=0, full_day_from_snapshot=1, member_statuses=dict.fromkeys(names, MemberStatus.VERIFIED)
    )
    state_store = SyncStateStore(engine, account, lambda: datetime.now(UTC))
    number = state_store.start_run("bench", "", NOW.date(), ())
    clock = Clock()
    writer = Writer(state_store, None, clock, lambda _: None)
    writer.start()
    made = 0.0
    is_stored, facts = bool(state_store.statuses()), dict[date, dict[SeriesKey, FactValues]]()
    for age in range(int(days)):
        began = perf_counter()
        day = NOW.date() - timedelta(days=10 + age)
        snapshots = day_snapshots(day, number, names, NOW)
        number += len(snapshots)
        made += perf_counter() - began
        reconciled = reconcile(profile.apply_to(DaySnapshots(day, snapshots=tuple(snapshots))))
        row = CoverageRow(reconciled.day_state, "final")
        if is_stored and age % DAYS_PER_READ == 0:
            facts = state_store.facts([day - timedelta(days=more) for more in range(DAYS_PER_READ)], 0)
        stored = replace(reconciled, stored_facts=facts[day]) if is_stored else empty_day(day)
        writer.submit(
            [DayUpdate(row, reconciled, stored, snapshot, is_last=snapshot is snapshots[-1]) for snapshot in snapshots]
        )
        while writer.waiting_snapshots > MAX_WAITING:
            clock.sleep(0.001)
    writer.close()
    print(json.dumps({"made": made, "inserted": writer.counts.inserted, "changed": writer.counts.changed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
