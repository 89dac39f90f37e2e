"""Final days are read again at random, and what the API changed late is found and loaded."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from etl.clock import Clock
from etl.models import Severity
from etl.outputs.status import load_status
from etl.sandbox.behaviour import Fault, FaultKind
from tests.e2e.world import WITHOUT_RETRIES, World, ago, small, totals, windows

pytestmark = pytest.mark.contract

DAYS = 40


def every_final_day(world: World) -> int:
    return int(world.rows("select count(*) from coverage_daily where status = 'final'")[0][0])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, small(DAYS), WITHOUT_RETRIES)


def change(world: World, *days: date) -> None:
    at = world.now - timedelta(hours=1)
    world.sandbox.dataset = replace(world.sandbox.dataset, late_corrections=tuple((day, at) for day in days))


def test_each_sync_reads_some_final_days_again_and_asks_one_request_for_each(world: World) -> None:
    with world:
        world.sync()
        usual = world.requested_by(world.sync)
        with_checks = world.requested_by(lambda: world.sync(spot_checks=5))
        assert with_checks.total() == usual.total() + 5
        checks = world.rows("select day, is_random, is_changed from spot_checks order by day")
        assert len(checks) == 5
        assert {*with_checks} - {*usual} == totals(*(day for day, *_ in checks))
        assert sorted(row[1:] for row in checks) == [(False, False)] * 2 + [(True, False)] * 3
        checked = "select distinct status from coverage_daily where day in (select day from spot_checks)"
        assert world.rows(checked) == [("final",)]


def test_the_first_sync_has_no_final_days_to_check(world: World) -> None:
    with world:
        world.sync(spot_checks=5)
        assert world.rows("select * from spot_checks") == []


def test_a_changed_final_day_and_its_changed_neighbours_are_loaded_and_reported(world: World) -> None:
    changed = [ago(20), ago(19), ago(18)]
    with world:
        world.sync()
        change(world, *changed)
        result = world.sync(spot_checks=every_final_day(world))
        assert world.hourly() == world.expected_rows()
        assert {day for (day,) in world.rows("select distinct day from spending_revisions")} == {*changed}
        assert "final days stay as they were" in {finding.check for finding in result.findings}
        [status] = load_status(world.warehouse, None, Clock(lambda: world.now)).accounts
        assert status.corrections is not None
        assert status.corrections.lookback == 20, "the proposed lookback is learned from spot checks"


def test_one_changed_day_found_leads_to_its_neighbours_until_unchanged_days_surround_them(world: World) -> None:
    with world:
        world.sync()
        change(world, *(ago(age) for age in range(15, 20)))
        seen: set[date] = set()
        for _ in range(60):
            before = len(world.sandbox.requests)
            world.now += timedelta(minutes=1)
            world.sync(spot_checks=1)
            revised = world.rows("select distinct day from spending_revisions where day < %s", ago(5))
            seen = {day for (day,) in revised}
            if seen:
                break
        requested_days = {window.start.date() for window in windows(world.sandbox.requests[before:])}
        assert {ago(age) for age in range(14, 21)} <= requested_days
        assert seen == {ago(age) for age in range(15, 20)}
        assert world.hourly() == world.expected_rows()


def test_status_says_what_the_checks_prove(world: World) -> None:
    with world:
        world.sync()
        world.sync(spot_checks=10)
        [status] = load_status(world.warehouse, None, Clock(lambda: world.now)).accounts
        assert status.spot_checks is not None
        assert (status.spot_checks.checked, status.spot_checks.changed) == (5, 0)
        assert status.spot_checks.at_most == pytest.approx(1 - 0.05 ** (1 / 5))


def test_a_check_of_an_unattributed_day_requests_no_queue_again(tmp_path: Path) -> None:
    world = World(tmp_path, small(DAYS, queues=("An unlisted queue",)), WITHOUT_RETRIES)
    with world:
        world.sync()
        usual = world.requested_by(world.sync)
        assert world.requested_by(lambda: world.sync(spot_checks=4)).total() == usual.total() + 4


def test_after_a_run_that_could_not_read_the_neighbours_the_next_one_does(world: World) -> None:
    changed = [ago(20), ago(19), ago(18)]
    with world:
        world.sync()
        change(world, *changed)
        world.sandbox.faults = (Fault(FaultKind.HTML_500, days=(ago(19), ago(21))),)
        first = world.sync(spot_checks=every_final_day(world))
        assert first.exit_code == 1
        world.sandbox.faults = ()
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()


@pytest.mark.parametrize("retention", [10, 25])
def test_days_that_the_api_no_longer_has_stay_as_they_are(world: World, retention: int) -> None:
    with world:
        world.sync()
        before = world.hourly()
        world.sandbox.behaviour = replace(world.sandbox.behaviour, retention_days=retention)
        result = world.sync(spot_checks=every_final_day(world))
        assert result.exit_code == 0
        assert world.hourly() == before
        [finding] = [one for one in result.findings if one.check == "final days are still returned"]
        assert finding.severity is Severity.INFO
        assert world.sync().exit_code == 0
        checked = {day for (day,) in world.rows("select day from spot_checks")}
        assert checked
        assert min(checked) >= ago(retention + 1) or all(day < ago(DAYS) for day in checked if day < ago(retention + 1))


def test_a_check_that_comes_back_as_zeros_changes_nothing(world: World) -> None:
    with world:
        world.sync()
        before = {key: spent for key, spent in world.hourly().items() if key[1].date() < ago(15)}
        world.sandbox.dataset = replace(world.sandbox.dataset, begins=ago(15))
        assert world.sync(spot_checks=every_final_day(world)).exit_code == 0
        assert {key: spent for key, spent in world.hourly().items() if key[1].date() < ago(15)} == before != {}
