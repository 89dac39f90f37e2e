"""Limits of a run: the lookback, the number of requests, and when the search for the first day ends."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from etl.extract import planner
from etl.extract.planner import Done, Request, StopReason, StoredState, SyncOptions, members
from etl.extract.planner.day_plan import new_day_plan, next_requests
from etl.extract.planner.state import EARLIEST_DAY
from etl.hour_values import NO_VALUES, HourValues
from etl.models import (
    TOTAL,
    ActivePeriod,
    DayState,
    Dimension,
    Measures,
    MemberStatus,
    Outcome,
    Snapshot,
    UnknownNameAnswer,
    UnknownNameBehaviour,
    Window,
    queue,
)

TODAY = date(2026, 11, 22)
OPTIONS = SyncOptions("default", TODAY)


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def test_the_lookback_is_today_and_that_many_days_before() -> None:
    days = [ago(n) for n in range(6) if OPTIONS.is_in_lookback(ago(n))]
    assert days == [ago(0), ago(1), ago(2), ago(3)]


def test_a_day_is_final_when_its_lookback_has_passed() -> None:
    assert OPTIONS.finalizes_at(ago(4)) == datetime(2026, 11, 22, tzinfo=UTC)


def test_members_may_be_requested_from_since_to_until_both_included() -> None:
    options = replace(OPTIONS, since=ago(9), until=ago(5))
    assert [n for n in range(12) if options.requests_members_of(ago(n))] == [5, 6, 7, 8, 9]
    assert not replace(options, totals_only=True).requests_members_of(ago(7))


def test_failures_after_an_error_that_rejects_the_account_do_not_change_the_reason() -> None:
    state = replace(planner.start(OPTIONS, StoredState()), stop_reason=StopReason.ACCOUNT_REJECTED)
    now = datetime(2026, 11, 22, tzinfo=UTC)
    for n in range(planner.MAX_FAILURES):
        window = Window.whole_day("default", TOTAL, ago(n))
        failed = Snapshot(n + 1, window, now, Outcome.FAILED, code="timeout")
        state = planner.apply_snapshot(state, failed, DayState(ago(n)))
    assert state.failure_streak == planner.MAX_FAILURES
    assert state.stop_reason is StopReason.ACCOUNT_REJECTED


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


def test_without_any_spend_all_searched_days_are_without_spend() -> None:
    state = replace(planner.start(OPTIONS, StoredState()), next_older_day=ago(11), pending=())
    assert state.days_without_spend == 11
    assert replace(state, next_older_day=None).days_without_spend == 0


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


def test_each_call_names_only_the_days_that_it_completed() -> None:
    state = replace(planner.start(OPTIONS, StoredState()), completed_days=(ago(3),))
    assert planner.next_windows(state, 4)[0].completed_days == ()
    snapshot = Snapshot(
        1, Window.whole_day("default", TOTAL, ago(9)), datetime(2026, 11, 22, tzinfo=UTC), Outcome.SUCCESS
    )
    assert planner.apply_snapshot(state, snapshot, DayState(ago(9))).completed_days == ()


CLOSED = DayState(
    ago(14), Measures(10, Decimal(1)), total_requested_at=datetime(2026, 11, 22, tzinfo=UTC), is_closed=True
)
"""A closed day of which nothing is explained; its date is one on which queues are requested ahead."""


def requested_ahead(
    between: planner.DayPlan, model: DayState | None = None, plan: DayState = CLOSED
) -> list[str | None]:
    """Queues that a day requests eight days before the last spend, with another day between them."""
    behaviours = {Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ZEROS)}
    periods = {queue("A"): (ActivePeriod(ago(6), ago(5)),)}
    options = replace(OPTIONS, known_queues=("A", "B"))
    state = planner.start(options, StoredState(unknown_name_behaviours=behaviours, active_periods=periods))
    found = next_requests(
        replace(
            state,
            last_explained=model or replace(CLOSED, day=ago(6), active_members=frozenset({queue("A")})),
            open_days={between.day: between, plan.day: planner.DayPlan(plan.day, plan, needs_total=False)},
        ),
        planner.DayPlan(plan.day, plan, needs_total=False),
    )
    return [window.series.member for window in found.windows] if found else []


def test_a_queue_is_requested_ahead_only_if_all_totals_between_are_known_and_similar() -> None:
    def other(**changes: Any) -> planner.DayPlan:
        return planner.DayPlan(ago(10), replace(CLOSED, day=ago(10), **changes), needs_total=False)

    assert requested_ahead(other()) == ["A"]
    assert requested_ahead(replace(other(), needs_total=True)) == []
    assert requested_ahead(other(total=Measures(10, Decimal("1.16")))) == []
    assert requested_ahead(other(total=Measures(41, Decimal("4.1")))) == []
    assert requested_ahead(other(total=Measures(40, Decimal("4.6")))) == ["A"]
    assert requested_ahead(other(total=Measures(2, Decimal("0.2")))) == []
    assert requested_ahead(other(is_closed=False)) == ["A"]
    assert requested_ahead(other(total=Measures(0, Decimal(0)))) == ["A"]
    assert requested_ahead(other(), plan=replace(CLOSED, is_closed=False)) == []


def test_a_day_with_outstanding_hours_of_its_total_alone_is_not_opened_again() -> None:
    options = replace(OPTIONS, known_queues=())
    state = planner.start(
        options, StoredState(days={ago(20): replace(CLOSED, day=ago(20))}, final=frozenset({ago(20)}))
    )
    start = datetime(2026, 11, 2, 5, tzinfo=UTC)
    day_state = replace(CLOSED, day=ago(20), outstanding=((TOTAL, start),))
    assert planner.apply_reconciled_day(state, day_state).open_days == {}
    of_queue = replace(CLOSED, day=ago(20), outstanding=((queue("A"), start),))
    assert list(planner.apply_reconciled_day(state, of_queue).open_days) == [ago(20)]
    not_closed = replace(of_queue, is_closed=False)
    assert planner.apply_reconciled_day(state, not_closed).open_days == {}
    for day in (ago(4), ago(20), ago(30)):
        pending = replace(state, pending=(ago(4), ago(20), ago(30)))
        assert planner.apply_reconciled_day(pending, replace(of_queue, day=day)).open_days == {}
        assert (
            day
            in planner.apply_reconciled_day(replace(pending, pending_opened=3), replace(of_queue, day=day)).open_days
        )


def test_days_that_are_opened_again_are_visited_newest_first() -> None:
    state = planner.start(replace(OPTIONS, known_queues=()), StoredState())
    start = datetime(2026, 11, 2, 5, tzinfo=UTC)
    for day in (ago(30), ago(20), ago(25)):
        day_state = replace(CLOSED, day=day, outstanding=((queue("A"), start),))
        state = planner.apply_reconciled_day(replace(state, pending=()), day_state)
    assert list(state.open_days) == list(state.due) == [ago(20), ago(25), ago(30)]
    changed = replace(CLOSED, day=ago(25), total=Measures(7, Decimal(7)))
    assert planner.apply_reconciled_day(state, changed).open_days[ago(25)].day_state == changed


def test_days_stay_newest_first_if_an_older_one_was_opened_again() -> None:
    """Only the newest day may discover queues, and older ones wait for it."""
    options = replace(OPTIONS, since=ago(40), known_queues=())
    state = replace(planner.start(options, StoredState()), has_total=True, pending=(ago(2), ago(10), ago(30)))
    older = replace(CLOSED, day=ago(20), outstanding=((queue("A"), datetime(2026, 11, 2, 5, tzinfo=UTC)),))
    state, _ = planner.next_windows(planner.apply_reconciled_day(state, older), 1000)
    assert list(state.open_days) == [ago(2), ago(10), ago(20), ago(30)]


def test_a_failed_member_is_requested_again_unless_it_is_refused() -> None:
    closed = replace(CLOSED, total_requested_at=datetime(2026, 12, 22, tzinfo=UTC), failed=frozenset({queue("A")}))
    statuses = {queue("A"): MemberStatus.RETIRED}
    stored = StoredState(days={ago(14): closed}, final=frozenset({ago(14)}))
    assert new_day_plan(planner.start(OPTIONS, stored), ago(14)).stale == {queue("A")}
    refused = planner.start(OPTIONS, replace(stored, member_statuses=statuses))
    assert new_day_plan(refused, ago(14)).stale == frozenset()


def test_a_day_with_spend_brings_the_days_around_its_active_period_near() -> None:
    before = {queue("A"): (ActivePeriod(ago(4), ago(2)),)}
    after = {queue("A"): (ActivePeriod(ago(10), ago(2)),)}
    near = members.days_brought_near(before, after, queue("A"), ago(10))
    assert near == [ago(n) for n in range(11, 5, -1)]
    assert members.days_brought_near(after, after, queue("A"), ago(10)) == []
    newer = members.days_brought_near({queue("A"): (ActivePeriod(ago(10), ago(8)),)}, after, queue("A"), ago(2))
    assert newer == [ago(n) for n in range(6, 0, -1)]
    far = {queue("A"): (ActivePeriod(ago(40), ago(2)),)}
    assert members.days_brought_near({}, far, queue("A"), ago(20)) == [ago(n) for n in range(28, 11, -1)]


def test_totals_only_expects_one_request_a_day() -> None:
    state = planner.start(replace(OPTIONS, totals_only=True, since=ago(2)), StoredState())
    assert planner.estimate(state) == (3, 3, 3)


def test_at_most_four_days_are_open_for_each_request_at_a_time() -> None:
    options = replace(OPTIONS, concurrency=2, since=ago(100))
    state = replace(planner.start(options, StoredState()), has_total=True)
    state, step = planner.next_windows(state, 1000)
    assert isinstance(step, Request)
    assert len(step.windows) == len(state.open_days) == 8


def test_a_day_is_opened_as_it_was_last_reconciled() -> None:
    state = planner.start(OPTIONS, StoredState(days={ago(20): replace(CLOSED, day=ago(20))}))
    changed = replace(CLOSED, day=ago(20), total=Measures(7, Decimal(7)))
    assert new_day_plan(planner.apply_reconciled_day(state, changed), ago(20)).day_state == changed


def test_a_failed_total_does_not_make_the_next_ones_wait_for_each_other() -> None:
    state = replace(planner.start(replace(OPTIONS, since=ago(9)), StoredState()), has_total=True)
    state, step = planner.next_windows(state, 4)
    assert isinstance(step, Request)
    failed = Snapshot(1, step.windows[0], datetime(2026, 11, 22, tzinfo=UTC), Outcome.FAILED, code="timeout")
    state = planner.apply_snapshot(state, failed, DayState(failed.window.day, failed=frozenset({TOTAL})))
    state, step = planner.next_windows(state, 3)
    assert isinstance(step, Request)
    assert [window.day for window in step.windows] == [ago(4), ago(5), ago(6)]


def test_the_estimate_adds_the_members_that_a_day_needs_again() -> None:
    read_at = datetime(2026, 11, 22, tzinfo=UTC)
    early = replace(CLOSED, day=ago(9), total_requested_at=read_at, active_members=frozenset({queue("A"), queue("B")}))
    options = replace(OPTIONS, known_queues=("A", "B", "C"), since=ago(9), until=ago(9), lookback=0)
    state = planner.start(options, StoredState(days={ago(9): early}))
    assert planner.estimate(state) == (1, 2, 2 + 3 + 1)
    assert planner.estimate(replace(state, pending_opened=1)) == (0, 0, 1)


def is_requested_once_more(days_ago: int, spend: int | None = None, unread: int | None = None) -> bool:
    """Whether a total without data is, if one day has stored spend, or another is open without a total."""
    stored = {} if spend is None else {ago(spend): replace(CLOSED, day=ago(spend))}
    state = planner.start(OPTIONS, StoredState(days=stored))
    plans = [planner.DayPlan(ago(n), DayState(ago(n)), needs_total=True) for n in (days_ago, unread) if n is not None]
    state = replace(state, has_total=True, open_days={plan.day: plan for plan in plans})
    window = Window.whole_day("default", TOTAL, ago(days_ago))
    now = datetime(2026, 11, 22, tzinfo=UTC)
    snapshot = Snapshot(1, window, now, Outcome.SUCCESS, lacks_data=True)
    day_state = DayState(ago(days_ago), total_requested_at=now, is_closed=True)
    return ago(days_ago) in planner.apply_snapshot(state, snapshot, day_state).open_days


def test_a_total_without_data_is_requested_once_more_in_the_week_around_days_that_may_have_spend() -> None:
    around = [n for n in range(5, 26) if n != 15]
    assert [n for n in around if is_requested_once_more(n, spend=15)] == [n for n in around if 8 <= n <= 22]
    assert [n for n in around if is_requested_once_more(n, unread=15)] == list(range(16, 23))
    assert not any(map(is_requested_once_more, around))


def test_with_more_retries_than_max_requests_an_open_day_gets_no_request() -> None:
    day_state = replace(CLOSED, day=ago(9), total=Measures(9, Decimal(9)))
    options = replace(OPTIONS, known_queues=("A", "B", "C"), max_requests=5, since=ago(9))
    behaviours = {Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ZEROS)}
    stored = StoredState(unknown_name_behaviours=behaviours)
    state = replace(planner.start(options, stored), has_total=True, retries=20)
    plan = planner.DayPlan(ago(9), day_state, needs_total=False, stale=frozenset(map(queue, "ABC")))
    state = replace(state, open_days={ago(9): plan})
    assert not isinstance(planner.next_windows(state, 4)[1], Request)
    _, step = planner.next_windows(replace(state, retries=0), 4)
    assert isinstance(step, Request)
    assert len(step.windows) >= 3


@pytest.mark.parametrize(("after_final", "is_early"), [(-1, False), (0, True), (1, True)])
def test_members_are_read_again_once_a_day_is_final_from_the_first_second_on(after_final: int, is_early: bool) -> None:
    final_at = OPTIONS.finalizes_at(ago(9))
    day_state = replace(
        CLOSED,
        day=ago(9),
        total_requested_at=final_at + timedelta(seconds=after_final),
        active_members=frozenset({queue("A"), queue("B")}),
        requested_at={queue("A"): final_at - timedelta(seconds=1), queue("B"): final_at},
    )
    state = planner.start(OPTIONS, StoredState(days={ago(9): day_state}, final=frozenset({ago(9)})))
    assert new_day_plan(state, ago(9)).stale == ({queue("A")} if is_early else frozenset())


def test_a_day_whose_total_failed_is_requested_again_even_if_it_had_been_read_after_its_lookback() -> None:
    read_at = datetime(2026, 12, 22, tzinfo=UTC)
    closed = replace(CLOSED, day=ago(9), total_requested_at=read_at)
    for failed, needs_total in ((frozenset({TOTAL}), True), (frozenset({queue("A")}), False)):
        stored = StoredState(days={ago(9): replace(closed, failed=failed)})
        assert new_day_plan(planner.start(OPTIONS, stored), ago(9)).needs_total is needs_total


def test_final_days_with_totals_alone_are_complete_for_a_run_that_wants_only_totals() -> None:
    spent = replace(
        CLOSED,
        day=ago(20),
        total=Measures(7, Decimal(7)),
        total_by_hour=HourValues((7,) * 24, (7,) * 24),
        total_requested_at=datetime(2026, 12, 22, tzinfo=UTC),
    )
    stored = StoredState(days={ago(20): spent}, final=frozenset({ago(20)}))
    for totals_only in (True, False):
        options = replace(OPTIONS, known_queues=("A",), totals_only=totals_only)
        assert (ago(20) in planner.start(options, stored).pending) is not totals_only


@pytest.mark.parametrize(
    ("outcome", "has_records", "has_total"),
    [(Outcome.PARTIAL, True, True), (Outcome.SUCCESS, False, True), (Outcome.FAILED, False, False)],
)
def test_the_first_total_with_records_or_without_errors_lets_many_days_go_at_once(
    outcome: Outcome, has_records: bool, has_total: bool
) -> None:
    state, step = planner.next_windows(planner.start(OPTIONS, StoredState()), 4)
    assert isinstance(step, Request)
    values = HourValues((0,) * 24, (0,) * 24) if has_records else NO_VALUES
    snapshot = Snapshot(1, step.windows[0], datetime(2026, 11, 22, tzinfo=UTC), outcome, values)
    assert planner.apply_snapshot(state, snapshot, DayState(TODAY)).has_total is has_total


def test_the_search_ends_on_the_first_day_of_2005() -> None:
    assert date(2005, 1, 1) == EARLIEST_DAY
