"""What was held when, and that all of it follows from the kept answers: as-of and replay."""

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
from sqlalchemy import Connection

from etl import __version__
from etl.clock import Clock
from etl.config import Environment, load
from etl.errors import InterruptedRunError
from etl.load.state import SyncStateStore
from etl.load.upsert import Batch, LoadCounts
from etl.models import Record, Rejection
from etl.outputs.status import AccountStatus, load_status
from etl.responses import RawRecord
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.sync.replay import ReplayResult, replay
from etl.transform import parse
from etl.warehouse.engine import open_warehouse
from tests.e2e.world import NOW, Hours, World, ago, export, midnight, small

pytestmark = pytest.mark.contract

ALONE, BESIDE, OWN = "Recaptcha Proxyless", "FunCaptcha", "A queue of our own"
GIVES_TOTALS = Behaviour(unknown_queue="totals")


def replayed(world: World) -> ReplayResult:
    clock = Clock(lambda: world.now)
    settings = load({"warehouse": world.warehouse}, clock.now(), Environment({}, world.folder))
    return Context().run(replay, settings, clock)  # its log lines' fields end with it


def told(world: World) -> AccountStatus:
    engine = open_warehouse(world.warehouse, read_only=True)
    [account] = load_status(engine, None, world.now).accounts
    return account


def of_closed_days(hours: Hours) -> Hours:
    return {key: value for key, value in hours.items() if key[1].date() < ago(0)}


def eventful(folder: Path) -> World:
    """Queues that come and go, corrections, a name that is believed late, apps, trouble."""
    lives = ((BESIDE, ago(8), ago(5)), (BESIDE, ago(-5), ago(-9)), (OWN, ago(6), ago(5)), (OWN, ago(-2), ago(-9)))
    dataset = small(8, (ALONE, BESIDE, OWN), lives=lives, corrections=True, seed=3)
    return World(folder, dataset, GIVES_TOTALS, (Fault(FaultKind.NAN, rate=0.05), Fault(FaultKind.HTML_500, rate=0.1)))


def live(world: World, nights: int = 8) -> None:
    """Nightly syncs, of which some name a queue, an app or trust."""
    for night in range(nights):
        world.now = NOW + night * (NOW - NOW.replace(day=21))
        given: dict[str, Any] = {"queues": (OWN,) if night >= 4 else ()}
        if night in (3, 4):
            given |= {
                "soft_ids": ("1011", "1022"),
                "trusted_queues": ("Recaptcha Proxyles",),
                "queues": ("Recaptcha Proxyles",),
            }
        assert world.sync(since=ago(4 if night < 2 else 8), **given).exit_code in (0, 1, 5)


def _copying_after_every_commit(
    copies: dict[datetime, Hours],
) -> Callable[[SyncStateStore, Connection, Batch], LoadCounts]:
    commit = SyncStateStore._commit

    def copying(state_store: SyncStateStore, connection: Connection, batch: Batch) -> LoadCounts:
        counts = commit(state_store, connection, batch)
        assert state_store._last_commit
        rows = connection.exec_driver_sql("select queue, hour_start, volume, money from spending_hourly").all()
        connection.rollback()
        moment = state_store._last_commit.replace(tzinfo=None)
        assert moment not in copies
        copies[moment] = {(queue, hour): (volume, money) for queue, hour, volume, money in rows}
        return counts

    return copying


def test_the_hourly_view_of_every_past_commit_can_be_seen_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: dict[datetime, Hours] = {}
    monkeypatch.setattr(SyncStateStore, "_commit", _copying_after_every_commit(copies))
    with eventful(tmp_path) as world:
        live(world)
        assert {queue for queue, _ in world.hourly()} >= {ALONE, BESIDE, OWN}
        causes = dict(world.rows("select cause, count(*) from internal.revisions group by cause"))
        assert causes.keys() == {"correction", "late_arriving", "attribution"}
        assert len(copies) > 20
        for moment, copy in copies.items():
            seen = world.rows(f"select queue, hour_start, volume, money from spending_as_of(timestamp '{moment}')")
            assert sorted(seen) == sorted((*key, *value) for key, value in copy.items()), moment


def test_the_columns_as_of_a_moment_are_those_of_the_hourly_view_but_is_final(tmp_path: Path) -> None:
    with World(tmp_path, small(2)) as world:
        world.sync()
        with open_warehouse(world.warehouse, read_only=True).connect() as connection:
            of_view, as_of = (
                list(connection.exec_driver_sql(f"select * from {rows} limit 1").keys())
                for rows in ("spending_hourly", "spending_as_of(timestamp '2030-01-01')")
            )
        assert as_of == [name for name in of_view if name != "is_final"]


def test_a_replay_of_an_eventful_life_finds_nothing_to_mend(tmp_path: Path) -> None:
    with eventful(tmp_path) as world:
        live(world)
        before = export(world)
        result = replayed(world)
        assert (result.differences, result.rows, result.dropped, result.unreadable) == ((), {}, (), ())
        assert result.facts == len(before["facts"])
        assert export(world) == before


def test_what_was_lost_or_falsified_is_what_it_was_after_a_replay(tmp_path: Path) -> None:
    with eventful(tmp_path) as world:
        live(world)
        before = export(world)
        world.rows("delete from internal.revisions")
        world.rows("delete from internal.over_allocated_hours")
        world.rows("delete from internal.facts where extract(hour from hour_start) = 7")
        world.rows("update internal.facts set money = money + 1 where extract(hour from hour_start) = 9")
        result = replayed(world)
        assert {one.hour_start.hour for one in result.differences} == {7, 9}
        assert export(world) == before
        assert replayed(world).rows == {}


def test_a_replay_killed_half_way_and_repeated_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.sync.replay.DAYS_PER_TRANSACTION", 3)
    with eventful(tmp_path) as world:
        live(world)
        before = export(world)
        world.rows("delete from internal.facts")
        rebuild = SyncStateStore.rebuild
        done: list[object] = []

        def dying(state_store: SyncStateStore, days: object) -> object:
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(days)
            return rebuild(state_store, days)  # type: ignore[arg-type]  # whatever came goes on

        monkeypatch.setattr(SyncStateStore, "rebuild", dying)
        with pytest.raises(InterruptedRunError, match="after 6 days"):
            replayed(world)
        assert world.one("select exit_code from internal.runs order by run desc limit 1") == 130
        assert world.one("select count(*) from internal.facts") < len(before["facts"])
        monkeypatch.setattr(SyncStateStore, "rebuild", rebuild)
        replayed(world)
        assert export(world) == before


def test_old_answers_are_dropped_and_their_days_stay_as_they_are(tmp_path: Path) -> None:
    with World(tmp_path, small(50, (ALONE,), turnover=False)) as world:
        world.sync()
        held, bodies = world.hourly(), world.one("select count(*) from internal.responses")
        world.sync(raw_retention_days=31)
        assert world.one("select count(*) from internal.responses") < bodies
        kept = "internal.snapshots r join internal.responses a using (account_id, hash) join internal.series s using (account_id, series_id)"
        assert world.one(f"select min(r.day) from {kept} where s.dimension = 'queue' and s.member = '{ALONE}'") == ago(
            31
        )
        assert world.hourly() == held
        before = len(world.requests)
        assert world.sync(queues=("Another",)).exit_code == 0
        assert {request.date for request in world.requests[before:]} == {
            int(day.timestamp()) for day in (NOW.replace(hour=0, minute=0) - timedelta(days=n) for n in range(4))
        }
        result = replayed(world)
        assert (result.differences, result.rows) == ((), {})
        assert result.dropped
        assert max(result.dropped) == ago(32)
        assert not result.unreadable
        assert world.hourly() == held


def test_status_says_how_old_hours_were_when_they_changed_and_which_lookback_would_have_caught_it(
    tmp_path: Path,
) -> None:
    with World(tmp_path, small(8, 6, corrections=True, idle_hours=0)) as world:
        world.sync()
        assert told(world).corrections is None
        for night in range(1, 9):
            world.now = NOW + timedelta(days=night)
            world.sync()
        seen = told(world).corrections
        assert seen is not None
        own = "from internal.revisions v join internal.snapshots r using (account_id, snapshot_id) where cause = 'correction'"
        revised = world.rows(f"select v.hour_start, v.day, r.requested_at {own}")
        assert seen.hours == len({hour for hour, _, _ in revised})
        assert seen.lookback == max((requested_at.date() - day).days for _, day, requested_at in revised)
        assert 24 <= seen.oldest_hours <= 24 * 5


def test_every_fact_leads_to_its_reading_its_answer_and_its_run_in_one_query(tmp_path: Path) -> None:
    cookbook = Path(__file__).parents[2] / "sql" / "cookbook" / "where_a_number_came_from.sql"
    with World(tmp_path, small(6, (ALONE, BESIDE))) as world:
        world.sync()
        rows = world.rows(cookbook.read_text())
        assert rows
        bodies = {name: zlib.decompress(body) for name, body in world.rows("select hash, body from internal.responses")}
        for _, queue, hour, volume, *_, requested_at, asked_for, answer, size, run, _, version in rows:
            told = json.loads(bodies[answer])["data"]
            of_hour = [record for record in told if record["dateFrom"] == int(hour.replace(tzinfo=UTC).timestamp())]
            assert [record["volume"] for record in of_hour] == [volume], queue
            assert (asked_for.date(), requested_at.date()) == (hour.date(), NOW.date())
            assert (run, version, size > 0) == (1, __version__, True)


def test_a_record_that_an_older_version_refused_is_booked_by_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = parse._parse_record
    dataset = small(4, (ALONE, BESIDE), idle_hours=0)
    odd = {dataset.hour(midnight(ago(n)) + timedelta(hours=7), BESIDE) for n in range(1, 5)}

    def refusing(raw: RawRecord) -> Record | Rejection:
        record = reads(raw)
        if isinstance(record, Record) and record.value in odd:
            return Rejection("an older version could not read it", raw.raw, record.hour_start)
        return record

    with World(tmp_path, dataset) as world:
        with monkeypatch.context() as older:
            older.setattr(parse, "_parse_record", refusing)
            assert world.sync().exit_code == 1
        assert world.hourly() != world.expected_rows()
        assert world.days("failed")
        result = replayed(world)
        assert {one.hour_start.hour for one in result.differences} == {7}
        assert of_closed_days(world.hourly()) == of_closed_days(world.expected_rows())
        assert world.rows("select * from spending_rejections") == []
        assert world.days("failed") == set()
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert replayed(world).rows == {}


@pytest.mark.long
def test_a_year_of_nine_queues_replayed_killed_and_replayed_again_is_the_same_to_the_last_row(tmp_path: Path) -> None:
    dice = random.Random(9)
    with World(
        tmp_path, Dataset(seed=9, begins=ago(364), queues=9, active_periods=(40, 3), idle_weeks=0, corrections=True)
    ) as world:
        world.sync(concurrency=16)
        before = export(world)
        world.rows("delete from internal.facts")
        world.rows("delete from internal.revisions")
        for _ in range(4):
            with world.command("replay", key=None) as process:
                threading.Event().wait(1 + 3 * dice.random())
                process.kill()
        with world.command("replay", key=None) as process:
            said, failure = process.communicate()
        assert (process.returncode, failure) == (0, "")
        assert f"{len(before['facts']):,} facts" in said
        assert export(world) == before


def test_records_of_an_answer_refused_as_a_whole_stay_refused_with_their_reasons(tmp_path: Path) -> None:
    with World(tmp_path, small(3, (ALONE,), idle_hours=0)) as world:
        reads = parse._parse_record
        with pytest.MonkeyPatch.context() as odd:
            odd.setattr(parse, "_parse_record", lambda raw: Rejection("odd", raw.raw) if raw.volume else reads(raw))
            world.sync()
            before = export(world)
            assert before["rejections"]
            assert replayed(world).rows == {}
            assert export(world) == before


def test_an_answer_that_is_not_what_its_hash_says_leaves_its_day_as_it_is_and_is_told(tmp_path: Path) -> None:
    with World(tmp_path, small(4, (ALONE,), idle_hours=0)) as world:
        world.sync()
        before = export(world)
        own = "select r.hash from internal.snapshots r join internal.series s using (account_id, series_id) where s.dimension = 'total'"
        for n, body in ((1, zlib.compress(b'{"errorId":0,"data":[]}')), (2, b"garbage")):
            world.rows(f"update internal.responses set body = %s where hash in ({own} and r.day = %s)", body, ago(n))
        result = replayed(world)
        assert set(result.unreadable) == {ago(1), ago(2)}
        assert (result.differences, result.rows) == ((), {})
        assert export(world) == before


def test_what_was_learned_of_strangers_later_changes_nothing_of_what_was_booked_before(tmp_path: Path) -> None:
    with World(tmp_path, small(4, (ALONE, BESIDE)), GIVES_TOTALS) as world:
        world.sync(queues=("Mistyped",))
        before = export(world)
        later = "select account_id, dimension, 'error', 'E', timestamp '2026-11-23' from internal.unknown_name_behaviours where dimension = 'queue'"
        world.rows(f"insert into internal.unknown_name_behaviours {later}")
        assert replayed(world).rows == {}
        assert export(world) == before


@pytest.mark.of_the_file
def test_facts_that_stand_there_twice_stand_there_once_after_a_replay(tmp_path: Path) -> None:
    with World(tmp_path, small(3, (ALONE,), idle_hours=0)) as world:
        world.sync()
        before = export(world)
        world.rows(f"insert into internal.facts select * from internal.facts where day = date '{ago(2)}'")
        assert replayed(world).rows == {"facts": 24 * 2}
        assert export(world) == before


def test_facts_on_a_day_that_was_never_asked_for_are_gone_after_a_replay(tmp_path: Path) -> None:
    with World(tmp_path, small(3, (ALONE,), idle_hours=0)) as world:
        world.sync()
        before = export(world)
        world.rows(
            f"update internal.facts set day = date '2001-01-01' where day = date '{ago(2)}' and extract(hour "
            "from hour_start) = 3"
        )
        world.rows(
            f"update internal.day_coverage set money = money + 1, is_explained = false where day = date '{ago(1)}'"
        )
        assert replayed(world).rows.keys() == {"facts", "day_coverage"}
        assert export(world) == before
