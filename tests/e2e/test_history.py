"""As-of queries and replay: what the warehouse contained at any time, and that it follows from the stored responses."""

import json
import random
import threading
import zlib
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl import __version__
from etl.clock import Clock
from etl.config import Environment, load
from etl.errors import InterruptedRunError
from etl.extract import protocol
from etl.load.state import SyncStateStore
from etl.load.upsert import Batch, LoadCounts
from etl.models import Record, Rejection
from etl.outputs.status import AccountStatus, load_status
from etl.responses import RawRecord
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.sync import writer
from etl.sync.replay import ReplayResult, replay
from etl.transform import parse
from etl.warehouse.engine import open_warehouse
from tests.e2e.world import NOW, Hours, World, ago, export, midnight, small

pytestmark = pytest.mark.contract

FIRST, SECOND, UNLISTED = "Recaptcha Proxyless", "FunCaptcha", "A queue of our own"
UNKNOWN_GIVES_TOTALS = Behaviour(unknown_queue="totals")


def run_replay(world: World) -> ReplayResult:
    clock = Clock(lambda: world.now)
    settings = load({"warehouse": world.warehouse}, clock.now(), Environment({}, world.folder))
    return Context().run(replay, settings, clock)  # the log context ends with it


def account_status(world: World) -> AccountStatus:
    [account] = load_status(world.warehouse, None, Clock(lambda: world.now)).accounts
    return account


def closed_days(hours: Hours) -> Hours:
    return {key: value for key, value in hours.items() if key[1].date() < ago(0)}


def eventful(folder: Path) -> World:
    """Return a world with queues that pause, corrections, a queue verified late, apps and faults."""
    active_periods = (
        (SECOND, ago(8), ago(5)),
        (SECOND, ago(-5), ago(-9)),
        (UNLISTED, ago(6), ago(5)),
        (UNLISTED, ago(-2), ago(-9)),
    )
    dataset = small(8, (FIRST, SECOND, UNLISTED), lives=active_periods, corrections=True, seed=3)
    return World(
        folder, dataset, UNKNOWN_GIVES_TOTALS, (Fault(FaultKind.NAN, rate=0.05), Fault(FaultKind.HTML_500, rate=0.1))
    )


def sync_nightly(world: World, nights: int = 8) -> None:
    """Run nightly syncs, some with requested queues, apps or trusted queues."""
    for night in range(nights):
        world.now = NOW + night * (NOW - NOW.replace(day=21))
        options: dict[str, Any] = {"queues": (UNLISTED,) if night >= 4 else ()}
        if night in (3, 4):
            options |= {
                "soft_ids": ("1011", "1022"),
                "trusted_queues": ("Recaptcha Proxyles",),
                "queues": ("Recaptcha Proxyles",),
            }
        assert world.sync(since=ago(4 if night < 2 else 8), **options).exit_code in (0, 1, 5)


def _copy_view_after_every_commit(
    copies: dict[datetime, Hours],
) -> Callable[[SyncStateStore, Batch], LoadCounts]:
    commit = SyncStateStore.commit

    def commit_and_copy(state_store: SyncStateStore, batch: Batch) -> LoadCounts:
        counts = commit(state_store, batch)
        assert state_store._last_commit
        with state_store._engine.connect() as connection:
            rows = connection.exec_driver_sql("select queue, hour_start, volume, money from spending_hourly").all()
        commit_time = state_store._last_commit.replace(tzinfo=None)
        assert commit_time not in copies
        copies[commit_time] = {(queue, hour): (volume, money) for queue, hour, volume, money in rows}
        return counts

    return commit_and_copy


def test_as_of_returns_the_hourly_view_of_every_past_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: dict[datetime, Hours] = {}
    monkeypatch.setattr(writer, "BATCH_SNAPSHOTS", 3)  # many small commits
    monkeypatch.setattr(SyncStateStore, "commit", _copy_view_after_every_commit(copies))
    with eventful(tmp_path) as world:
        sync_nightly(world)
        assert {queue for queue, _ in world.hourly()} >= {FIRST, SECOND, UNLISTED}
        causes = dict(world.rows("select cause, count(*) from internal.revisions group by cause"))
        assert causes.keys() == {"correction", "late_arriving", "attribution"}
        assert len(copies) > 20
        for commit_time, copy in copies.items():
            found = world.rows(
                f"select queue, hour_start, volume, money from spending_as_of(timestamp '{commit_time}')"
            )
            assert sorted(found) == sorted((*key, *value) for key, value in copy.items()), commit_time


def test_as_of_has_the_columns_of_the_hourly_view_except_is_final(tmp_path: Path) -> None:
    with World(tmp_path, small(2)) as world:
        world.sync()
        with open_warehouse(world.warehouse, read_only=True).connect() as connection:
            of_view, as_of = (
                list(connection.exec_driver_sql(f"select * from {rows} limit 1").keys())
                for rows in ("spending_hourly", "spending_as_of(timestamp '2030-01-01')")
            )
        assert as_of == [name for name in of_view if name != "is_final"]


def test_a_replay_of_an_eventful_history_finds_no_difference(tmp_path: Path) -> None:
    with eventful(tmp_path) as world:
        sync_nightly(world)
        before = export(world)
        result = run_replay(world)
        assert (result.differences, result.rows, result.dropped, result.unreadable) == ((), {}, (), ())
        assert result.facts == len(before["facts"])
        assert export(world) == before


def test_a_replay_restores_deleted_and_changed_rows(tmp_path: Path) -> None:
    with eventful(tmp_path) as world:
        sync_nightly(world)
        before = export(world)
        world.rows("delete from internal.revisions")
        world.rows("delete from internal.over_allocated_hours")
        world.rows("delete from internal.facts where extract(hour from hour_start) = 7")
        world.rows("update internal.facts set money = money + 1 where extract(hour from hour_start) = 9")
        result = run_replay(world)
        assert {difference.hour_start.hour for difference in result.differences} == {7, 9}
        assert export(world) == before
        assert run_replay(world).rows == {}


def test_a_replay_interrupted_half_way_and_repeated_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.sync.replay.DAYS_PER_TRANSACTION", 3)
    with eventful(tmp_path) as world:
        sync_nightly(world)
        before = export(world)
        world.rows("delete from internal.facts")
        rebuild = SyncStateStore.rebuild
        rebuilt: list[object] = []

        def interrupted_rebuild(state_store: SyncStateStore, days: object) -> object:
            if len(rebuilt) == 2:
                raise KeyboardInterrupt
            rebuilt.append(days)
            return rebuild(state_store, days)  # type: ignore[arg-type]  # passed on unchanged

        monkeypatch.setattr(SyncStateStore, "rebuild", interrupted_rebuild)
        with pytest.raises(InterruptedRunError, match="6 days are done"):
            run_replay(world)
        assert world.one("select exit_code from internal.runs order by run desc limit 1") == 130
        assert world.one("select count(*) from internal.facts") < len(before["facts"])
        monkeypatch.setattr(SyncStateStore, "rebuild", rebuild)
        run_replay(world)
        assert export(world) == before


def test_old_responses_are_deleted_and_their_days_do_not_change(tmp_path: Path) -> None:
    with World(tmp_path, small(50, (FIRST,), turnover=False)) as world:
        world.sync()
        stored, bodies = world.hourly(), world.one("select count(*) from internal.responses")
        world.sync(raw_retention_days=31)
        assert world.one("select count(*) from internal.responses") < bodies
        with_response = "internal.snapshots r join internal.responses a using (account_id, hash) join internal.series s using (account_id, series_id)"
        assert world.one(
            f"select min(r.day) from {with_response} where s.dimension = 'queue' and s.member = '{FIRST}'"
        ) == ago(31)
        assert world.hourly() == stored
        before = len(world.requests)
        assert world.sync(queues=("Another",)).exit_code == 0
        assert {request.date for request in world.requests[before:]} == {
            int(day.timestamp()) for day in (NOW.replace(hour=0, minute=0) - timedelta(days=n) for n in range(4))
        }
        result = run_replay(world)
        assert (result.differences, result.rows) == ((), {})
        assert result.dropped
        assert max(result.dropped) == ago(32)
        assert not result.unreadable
        assert world.hourly() == stored


def test_status_shows_the_age_of_corrected_hours_and_the_lookback_that_covers_them(
    tmp_path: Path,
) -> None:
    with World(tmp_path, small(8, 6, corrections=True, idle_hours=0)) as world:
        world.sync()
        assert account_status(world).corrections is None
        for night in range(1, 9):
            world.now = NOW + timedelta(days=night)
            world.sync()
        found = account_status(world).corrections
        assert found is not None
        corrections = "from internal.revisions v join internal.snapshots r using (account_id, snapshot_id) where cause = 'correction'"
        revised = world.rows(f"select v.hour_start, v.day, r.requested_at {corrections}")
        assert found.hours == len({hour for hour, _, _ in revised})
        assert found.lookback == max((requested_at.date() - day).days for _, day, requested_at in revised)
        assert 24 <= found.oldest_hours <= 24 * 5


def test_one_query_leads_from_a_fact_to_its_snapshot_response_and_run(tmp_path: Path) -> None:
    cookbook = Path(__file__).parents[2] / "sql" / "cookbook" / "where_a_number_came_from.sql"
    with World(tmp_path, small(6, (FIRST, SECOND))) as world:
        world.sync()
        rows = world.rows(cookbook.read_text())
        assert rows
        bodies = {name: zlib.decompress(body) for name, body in world.rows("select hash, body from internal.responses")}
        for _, queue, hour, volume, *_, requested_at, window_start, response_hash, size, run, _, version in rows:
            records = json.loads(bodies[response_hash])["data"]
            of_hour = [record for record in records if record["dateFrom"] == int(hour.replace(tzinfo=UTC).timestamp())]
            assert [record["volume"] for record in of_hour] == [volume], queue
            assert (window_start.date(), requested_at.date()) == (hour.date(), NOW.date())
            assert (run, version, size > 0) == (1, __version__, True)


def test_a_replay_loads_records_that_an_older_version_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse_record = parse._parse_record
    dataset = small(4, (FIRST, SECOND), idle_hours=0)
    odd = {dataset.hour(midnight(ago(n)) + timedelta(hours=7), SECOND) for n in range(1, 5)}

    def reject_odd(raw: RawRecord) -> Record | Rejection:
        record = parse_record(raw)
        if isinstance(record, Record) and record.value in odd:
            return Rejection("an older version could not read it", raw.raw, record.hour_start)
        return record

    with World(tmp_path, dataset) as world:
        with monkeypatch.context() as older:
            older.setattr(protocol, "_regular_hours", lambda _: None)
            older.setattr(parse, "_parse_record", reject_odd)
            assert world.sync().exit_code == 1
        assert world.hourly() != world.expected_rows()
        assert world.days("failed")
        result = run_replay(world)
        assert {difference.hour_start.hour for difference in result.differences} == {7}
        assert closed_days(world.hourly()) == closed_days(world.expected_rows())
        assert world.rows("select * from spending_rejections") == []
        assert world.days("failed") == set()
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert run_replay(world).rows == {}


@pytest.mark.long
def test_a_year_whose_replay_is_killed_and_repeated_has_the_same_rows(tmp_path: Path) -> None:
    random_source = random.Random(9)
    with World(
        tmp_path, Dataset(seed=9, begins=ago(364), queues=9, active_periods=(40, 3), idle_weeks=0, corrections=True)
    ) as world:
        world.sync(concurrency=16)
        before = export(world)
        world.rows("delete from internal.facts")
        world.rows("delete from internal.revisions")
        for _ in range(4):
            with world.command("replay", key=None) as process:
                threading.Event().wait(1 + 3 * random_source.random())
                process.kill()
        with world.command("replay", key=None) as process:
            stdout, stderr = process.communicate()
        assert (process.returncode, stderr) == (0, "")
        assert f"{len(before['facts']):,} facts" in stdout
        assert export(world) == before


def test_a_replay_keeps_rejections_of_a_response_without_usable_records(tmp_path: Path) -> None:
    with World(tmp_path, small(3, (FIRST,), idle_hours=0)) as world:
        parse_record = parse._parse_record
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(protocol, "_regular_hours", lambda _: None)
            patched.setattr(
                parse, "_parse_record", lambda raw: Rejection("odd", raw.raw) if raw.volume else parse_record(raw)
            )
            world.sync()
            before = export(world)
            assert before["rejections"]
            assert run_replay(world).rows == {}
            assert export(world) == before


def test_a_replay_leaves_days_with_damaged_responses_unchanged_and_reports_them(tmp_path: Path) -> None:
    with World(tmp_path, small(4, (FIRST,), idle_hours=0)) as world:
        world.sync()
        before = export(world)
        total_hashes = "select r.hash from internal.snapshots r join internal.series s using (account_id, series_id) where s.dimension = 'total'"
        for n, body in ((1, zlib.compress(b'{"errorId":0,"data":[]}')), (2, b"garbage")):
            world.rows(
                f"update internal.responses set body = %s where hash in ({total_hashes} and r.day = %s)", body, ago(n)
            )
        result = run_replay(world)
        assert set(result.unreadable) == {ago(1), ago(2)}
        assert (result.differences, result.rows) == ((), {})
        assert export(world) == before


def test_a_replay_ignores_unknown_name_behaviour_that_was_detected_later(tmp_path: Path) -> None:
    with World(tmp_path, small(4, (FIRST, SECOND)), UNKNOWN_GIVES_TOTALS) as world:
        world.sync(queues=("Mistyped",))
        before = export(world)
        later = "select account_id, dimension, 'error', 'E', timestamp '2026-11-23' from internal.unknown_name_behaviours where dimension = 'queue'"
        world.rows(f"insert into internal.unknown_name_behaviours {later}")
        assert run_replay(world).rows == {}
        assert export(world) == before


@pytest.mark.of_the_file
def test_a_replay_removes_duplicate_facts(tmp_path: Path) -> None:
    with World(tmp_path, small(3, (FIRST,), idle_hours=0)) as world:
        world.sync()
        before = export(world)
        world.rows(f"insert into internal.facts select * from internal.facts where day = date '{ago(2)}'")
        assert run_replay(world).rows == {"facts": 24 * 2}
        assert export(world) == before


def test_a_replay_removes_facts_of_days_that_were_never_requested(tmp_path: Path) -> None:
    with World(tmp_path, small(3, (FIRST,), idle_hours=0)) as world:
        world.sync()
        before = export(world)
        world.rows(
            f"update internal.facts set day = date '2001-01-01' where day = date '{ago(2)}' and extract(hour "
            "from hour_start) = 3"
        )
        world.rows(
            f"update internal.day_coverage set money = money + 1, is_explained = false where day = date '{ago(1)}'"
        )
        assert run_replay(world).rows.keys() == {"facts", "day_coverage"}
        assert export(world) == before
