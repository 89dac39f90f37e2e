"""Limits of a run: the lookback, the number of requests, and when the search for the first day ends."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from etl.extract import planner
from etl.extract.planner import Done, Request, StopReason, StoredState, SyncOptions
from etl.extract.planner.day_plan import next_requests
from etl.models import DayState, Dimension, Measures, UnknownNameAnswer, UnknownNameBehaviour

TODAY = date(2026, 11, 22)
OPTIONS = SyncOptions("default", TODAY)


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def test_the_lookback_is_today_and_that_many_days_before() -> None:
    days = [ago(n) for n in range(6) if OPTIONS.is_in_lookback(ago(n))]
    assert days == [ago(0), ago(1), ago(2), ago(3)]


def test_a_day_is_final_when_its_lookback_has_passed() -> None:
    assert OPTIONS.finalizes_at(ago(4)) == datetime(2026, 11, 22, tzinfo=UTC)


def test_retries_count_as_requests_for_max_requests() -> None:
    state = replace(planner.start(replace(OPTIONS, max_requests=5), StoredState()), requests_sent=3)
    _, step = planner.next_windows(replace(state, retries=1), 4)
    assert isinstance(step, Request)
    _, step = planner.next_windows(replace(state, retries=2), 4)
    assert step == Done(StopReason.LIMIT)


def test_the_search_ends_empty_days_before_the_oldest_spend() -> None:
    spend = DayState(ago(10), total=Measures(1, Decimal(1)), total_requested_at=datetime(2026, 11, 21, tzinfo=UTC))
    state = planner.start(replace(OPTIONS, empty_days=30), StoredState(days={ago(10): spend}))
    assert state.next_older_day == ago(11)
    assert planner.days_before_known_range(state) == 30
    assert state.days_without_spend == 0
    searched = replace(state, next_older_day=ago(31), pending=())
    assert planner.days_before_known_range(searched) == 10
    assert searched.days_without_spend == 20
    assert replace(state, next_older_day=ago(41), pending=()).next_day is None


def test_without_any_spend_the_search_covers_ten_times_empty_days() -> None:
    state = planner.start(replace(OPTIONS, empty_days=30), StoredState())
    assert planner.days_before_known_range(state) == 300 - 1
    assert (
        planner.days_before_known_range(replace(state, options=replace(OPTIONS, since=ago(3)), next_older_day=None))
        == 0
    )


def test_discovery_requests_one_queue_at_a_time_until_a_day_found_nothing() -> None:
    behaviours = {Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ZEROS)}
    options = replace(OPTIONS, known_queues=("A", "B", "C"))
    state = planner.start(options, StoredState(unknown_name_behaviours=behaviours))
    requested_at = datetime(2026, 11, 22, tzinfo=UTC)
    day_state = DayState(ago(5), Measures(1, Decimal(1)), total_requested_at=requested_at, is_closed=True)
    plan = planner.DayPlan(ago(5), day_state, needs_total=False)
    first = next_requests(state, plan)
    assert first is not None
    assert ([window.series.member for window in first.windows], first.is_discovering) == (["A"], True)
    later = next_requests(replace(state, discovery_found_nothing=True), plan)
    assert later is not None
    assert [window.series.member for window in later.windows] == ["A", "B", "C"]
