"""Which days the planner visits, and which windows it requests for each."""

import random
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from etl.extract import planner
from etl.extract.planner import NONEXISTENT_MEMBERS, Request, StopReason, StoredState, Wait
from etl.hour_values import NO_VALUES
from etl.models import DAY, TOTAL, DayState, Dimension, Outcome, Snapshot, Window, app, queue
from tests.core import hour_values, records_of
from tests.unit.planner_service import (
    NOW,
    SIX_DAYS,
    TODAY,
    Service,
    SimulatedSync,
    ago,
    sync,
    sync_options,
)

# ---------------------------------------------------------------- the first run


def test_the_first_two_requests_are_sent_alone_whatever_the_concurrency() -> None:
    run = SimulatedSync(sync_options(concurrency=8), Service(SIX_DAYS))
    run.state, step = planner.next_windows(run.state, 8)
    assert isinstance(step, Request)
    assert len(step.windows) == 1
    assert isinstance(planner.next_windows(run.state, 7)[1], Wait)
    run.receive(step.windows[0])
    run.state, step = planner.next_windows(run.state, 8)
    assert isinstance(step, Request)
    assert [window.series.member for window in step.windows] == [NONEXISTENT_MEMBERS[Dimension.QUEUE].member]
    assert isinstance(planner.next_windows(run.state, 7)[1], Wait)


def test_a_first_run_requests_each_total_and_each_day_of_a_queue_once() -> None:
    # Today's queues wait for the discovery of yesterday's. Three days without spend end the history.
    assert sync(Service(SIX_DAYS)).requested == [
        "0*", "0?", "1*", "1A", "0A", "2*", "2A", "3*", "3A", "4*", "4A", "5*", "5A", "6*", "7*", "8*",
    ]  # fmt: skip


def test_a_day_without_spend_takes_one_request() -> None:
    run = sync(Service({(0, "A"): {8: 1}}))
    assert run.requested_on(*range(1, 12)) == ["1*", "2*", "3*"]


def test_totals_only_requests_no_queue_and_does_not_probe_unknown_names() -> None:
    assert sync(Service(SIX_DAYS), totals_only=True).requested == [f"{n}*" for n in range(9)]


# ---------------------------------------------------------------- the start of history


def test_the_search_ends_empty_days_before_the_oldest_spend() -> None:
    run = sync(Service(SIX_DAYS | {(8, "A"): {1: 1}}))
    assert run.oldest_requested == 11


def test_an_idle_period_of_empty_days_ends_the_history() -> None:
    run = sync(Service(SIX_DAYS | {(9, "A"): {1: 1}}))
    assert run.oldest_requested == 8


def test_an_idle_day_requested_long_before_the_history_does_not_make_the_years_between_a_gap() -> None:
    first = sync(Service(SIX_DAYS))
    idle_day = sync(Service(SIX_DAYS), first, until=ago(2000))
    assert idle_day.requested == ["2000*"]
    assert sync(Service(SIX_DAYS), idle_day).requested == ["0*", "1*", "2*", "3*"]


def test_since_overrides_empty_days_in_both_directions() -> None:
    assert sync(Service(SIX_DAYS), since=ago(2)).requested[-2:] == ["2*", "2A"]
    assert sync(Service({(0, "A"): {1: 1}}), since=ago(7)).requested[-1] == "7*"


def test_until_is_the_newest_requested_day() -> None:
    assert sync(Service(SIX_DAYS), until=ago(4)).requested == ["4*", "4?", "4A", "5*", "5A", "6*", "7*", "8*"]


def test_without_any_spend_the_search_ends_after_ten_times_empty_days() -> None:
    run = sync(Service({}))
    assert run.requested == [f"{n}*" for n in range(30)]
    assert run.state.found_no_spend


def test_a_failed_day_does_not_count_as_empty() -> None:
    service = Service(SIX_DAYS)
    service.errors[7, None] = ("timeout", None)
    assert sync(service).oldest_requested == 10


def test_no_day_before_the_start_of_history_is_requested_whatever_the_concurrency() -> None:
    run = sync(Service(SIX_DAYS), concurrency=8)
    assert run.oldest_requested == 8


def test_the_search_for_the_start_of_history_ends_at_the_earliest_day() -> None:
    last = planner.EARLIEST_DAY + timedelta(days=3)
    state = planner.start(sync_options(until=last, empty_days=1000), StoredState())
    assert planner.estimate(state) == (4, 4, None)


# ---------------------------------------------------------------- later runs


def test_a_second_run_requests_only_the_totals_of_today_and_the_lookback() -> None:
    first = sync(Service(SIX_DAYS))
    assert sync(Service(SIX_DAYS), first).requested == ["0*", "1*", "2*", "3*"]


def test_a_changed_total_in_the_lookback_requests_the_queues_of_its_day_again() -> None:
    first = sync(Service(SIX_DAYS))
    assert sync(Service(SIX_DAYS | {(2, "A"): {8: 11, 9: 5}}), first).requested == ["0*", "1*", "2*", "2A", "3*"]


def test_queues_are_requested_again_when_their_day_becomes_final() -> None:
    first = sync(Service(SIX_DAYS))
    run = sync(Service(SIX_DAYS), first, now=NOW + DAY, today=TODAY + DAY)
    assert run.requested == ["-1*", "0*", "1*", "2*", "3*", "3A"]


def test_a_gap_is_requested_without_the_stored_days_around_it() -> None:
    run = sync(Service(SIX_DAYS), sync(Service(SIX_DAYS)), without_days={ago(5)})
    assert run.requested == ["0*", "1*", "2*", "3*", "5*", "5A"]


def test_a_day_with_an_unattributed_amount_is_requested_for_new_names_only() -> None:
    spend = SIX_DAYS | {(4, "New"): {3: 7}}
    first = sync(Service(spend, unknown_queue="zeros"))
    assert not first.day_states[ago(4)].is_explained
    assert sync(Service(spend, unknown_queue="zeros"), first).requested == ["0*", "1*", "2*", "3*"]
    with_new_name = sync(Service(spend, unknown_queue="zeros"), first, configured=(queue("New"),))
    assert with_new_name.requested == ["0*", "1*", "2*", "3*", "4New"]


def test_an_unexplained_day_of_the_lookback_requests_its_active_queues_again_and_all_names_once_it_is_final() -> None:
    service = Service(SIX_DAYS | {(2, "New"): {3: 7}}, unknown_queue="zeros")
    first = sync(service)
    assert sync(service, first).requested_on(2) == ["2*", "2A"]
    final = sync(service, first, now=NOW + 2 * DAY, today=TODAY + 2 * DAY)
    assert sorted(final.requested_on(2)) == ["2*", "2A", "2B", "2C"]


@pytest.mark.parametrize(("price", "is_requested"), [(5, True), (8, False)])
def test_a_queue_that_returns_today_is_requested_at_once_if_its_price_fits(price: int, is_requested: bool) -> None:
    spend = {(n, "A"): {1: 10, 2: 5} for n in range(-1, 40)} | {(30, "B"): {3: 7}}
    service = Service(spend, unknown_queue="zeros")
    service.prices["B"] = 5
    first = sync(service)
    service.spend[-1, "B"] = {2: 9}
    service.prices["B"] = price
    run = sync(service, first, now=NOW + DAY, today=TODAY + DAY)
    assert ("-1B" in run.requested) is is_requested
    assert run.day_states[ago(-1)].is_explained is is_requested
    later = sync(service, run, now=NOW + 2 * DAY, today=TODAY + 2 * DAY)
    assert later.day_states[ago(-1)].is_explained


def test_at_most_three_queues_are_tried_on_the_running_day_and_once_in_a_run() -> None:
    names = [f"Q{number}" for number in range(6)]
    spend = {(n, "A"): {1: 10} for n in range(-1, 40)} | {(30, name): {3: 7} for name in names}
    service = Service(spend, unknown_queue="zeros")
    service.prices |= dict.fromkeys(names, 5)
    first = sync(service, known_queues=("A", *names))
    service.spend[-1, "Unlisted"] = {6: 8}
    service.prices["Unlisted"] = 5
    run = sync(service, first, now=NOW + DAY, today=TODAY + DAY, known_queues=("A", *names))
    tried = [one for one in run.requested_on(-1) if one[2:] in names]
    assert len(tried) == len({*tried}) == 3
    assert not run.day_states[ago(-1)].is_explained


def test_after_a_crash_between_total_and_queue_neither_is_repeated() -> None:
    first = SimulatedSync(sync_options(), Service(SIX_DAYS))
    while first.requested[-1:] != ["5A"]:  # sent, but its response is never received
        first.state, step = planner.next_windows(first.state, 1)
        if isinstance(step, Request):
            first.sent += step.windows
            if first.requested[-1] != "5A":
                first.receive(step.windows[0])
    again = sync(Service(SIX_DAYS), first)
    assert again.requested == ["0*", "1*", "2*", "3*", "5A", "6*", "7*", "8*"]


def test_a_total_that_falls_to_zero_requests_its_queues_again() -> None:
    first = sync(Service(SIX_DAYS))
    run = sync(Service({(n, "A"): {8: 0 if n == 2 else 10, 9: 0 if n == 2 else 5} for n in range(6)}), first)
    assert run.requested == ["0*", "1*", "2*", "2A", "3*"]
    assert not run.day_states[ago(2)].over_allocated_dimensions


def test_an_empty_response_is_rechecked_once_if_spend_is_stored() -> None:
    service = Service(SIX_DAYS)
    first = sync(service)

    class EmptyDay(Service):
        def respond(self, window: Window, number: int, requested_at: datetime) -> Snapshot:
            snapshot = super().respond(window, number, requested_at)
            return replace(snapshot, values=NO_VALUES) if window.day == ago(2) else snapshot

    run = sync(EmptyDay(SIX_DAYS), first)
    assert run.requested_on(2) == ["2*", "2*", "2*@23", "2A", "2A"]  # an empty response may omit the last hour
    assert not run.day_states[ago(2)].has_spend
    assert not run.day_states[ago(2)].over_allocated_dimensions


def test_a_response_for_a_day_that_is_not_open_changes_nothing() -> None:
    state = planner.start(sync_options(), StoredState())
    window = Window.whole_day("default", TOTAL, ago(3))
    state = planner.apply_snapshot(state, Snapshot(1, window, NOW, Outcome.SUCCESS), DayState(ago(3)))
    assert state.open_days == {}


# ---------------------------------------------------------------- outstanding hours


def test_the_last_hour_of_a_short_total_is_requested_and_that_of_its_queues_only_if_it_has_spend() -> None:
    service = Service({(n, "A"): {8: 10} for n in range(3)} | {(1, "A"): {8: 10, 23: 2}})
    for n in range(12):
        service.last_hour |= {(n, None): 22, (n, "A"): 22}
    run = sync(service)
    assert run.requested_on(1) == ["1*", "1*@23", "1A", "1A@23"]
    assert run.requested_on(2) == ["2*", "2*@23", "2A"]


def test_an_hour_requested_once_is_not_requested_by_the_next_run() -> None:
    service = Service({(n, "A"): {8: 10} for n in range(6)})
    service.last_hour = {(5, None): 22}
    first = sync(service)
    assert "5*@23" in first.requested
    assert sync(service, first).requested == ["0*", "1*", "2*", "3*"]


def test_the_idle_last_hour_of_a_short_total_is_requested_again_with_the_total_because_spend_may_arrive_late() -> None:
    spend = {(n, "A"): {8: 10} for n in range(6)}
    service = Service(spend)
    for n in range(20):
        service.last_hour |= {(n, None): 22, (n, "A"): 22}
    first = sync(service)
    assert first.requested_on(1) == ["1*", "1*@23", "1A"]
    service.spend[1, "A"] = {8: 10, 23: 4}
    again = sync(service, first)
    assert again.requested_on(1) == ["1*", "1*@23", "1A", "1A@23"]
    assert again.day_states[ago(1)].total.volume == 14
    assert again.day_states[ago(1)].is_explained
    assert again.requested_on(2, 3, 4) == ["2*", "2*@23", "3*", "3*@23"]


def test_no_window_is_sent_twice_while_it_is_in_flight() -> None:
    service = Service({(n, "A"): {8: 10, 23: 2} for n in range(9)})
    for n in range(20):
        service.last_hour |= {(n, None): 22, (n, "A"): 22}
    run = sync(service, concurrency=8)
    assert {"1*@23", "1A@23", "8*@23", "8A@23"} <= {*run.requested}
    assert len({*run.requested}) == len(run.requested)


class ServiceWithoutIdleHours(Service):
    """Leaves out idle hours, so that a response may end before its day does."""

    def respond(self, window: Window, number: int, requested_at: datetime) -> Snapshot:
        snapshot = super().respond(window, number, requested_at)
        return replace(
            snapshot, values=hour_values((one for one in records_of(snapshot) if one.volume), snapshot.window.day)
        )


def test_a_total_without_data_is_requested_once_more_beside_days_with_spend() -> None:
    service = Service(SIX_DAYS)
    service.without_data = {(2, None): 1, (4, None): 5}
    run = sync(service)
    assert run.requested.count("2*") == 2
    assert run.day_states[ago(2)].has_spend
    assert run.requested.count("4*") == 2  # the second response counts
    assert not run.day_states[ago(4)].has_spend
    again = sync(service, after=run)
    assert again.requested_on(4) == []  # it is final


def test_a_total_without_data_counts_at_once_far_from_days_with_spend() -> None:
    service = Service({(0, "A"): {3: 5}, (20, "A"): {3: 5}})
    service.without_data = dict.fromkeys(((n, None) for n in range(1, 19)), 9)
    run = sync(service, empty_days=30)
    requests = [run.requested.count(f"{n}*") for n in range(1, 19)]
    assert requests == [2] * 7 + [1] * 11


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_totals_without_data_wait_for_those_of_the_newer_week_whatever_the_order_of_responses(concurrency: int) -> None:
    for seed in range(5):
        service = Service({(0, "A"): {3: 5}})
        service.without_data = dict.fromkeys(((n, None) for n in range(1, 200)), 9)
        options = sync_options(concurrency=concurrency, empty_days=60)
        run = SimulatedSync(options, service, order=random.Random(seed))
        assert run.run() is StopReason.DONE
        assert [n for n in range(200) if run.requested.count(f"{n}*") == 2] == list(range(1, 8))


def test_a_queue_without_data_is_requested_once_more_beside_its_own_days_with_spend() -> None:
    service = Service(SIX_DAYS | {(n, "B"): {5: 1} for n in range(6)})
    service.without_data = {(3, "B"): 1, (3, "C"): 1}
    run = sync(service)
    assert sorted(run.requested_on(3)) == ["3*", "3A", "3B", "3B"]
    assert run.day_states[ago(3)].is_explained


def test_a_queue_without_data_counts_at_once_far_from_its_own_days_with_spend() -> None:
    service = Service(SIX_DAYS)
    service.extra_total[3, 8] = 1  # all names are requested on this day
    service.without_data = {(3, "B"): 9, (3, "C"): 9}
    assert sorted(sync(service).requested_on(3)) == ["3*", "3A", "3B", "3C"]


def test_the_last_hour_of_an_empty_day_is_requested_if_responses_may_end_early() -> None:
    service = ServiceWithoutIdleHours({(1, "A"): {8: 10}, (2, "A"): {23: 5}})
    service.last_hour |= {(2, None): 22, (2, "A"): 22}
    run = sync(service)
    assert run.requested_on(2, 3) == ["2*", "2*@23", "2A", "2A@23", "3*", "3*@23"]
    assert run.day_states[ago(2)].total.volume == 5
    assert run.day_states[ago(2)].is_explained


def test_an_outstanding_hour_with_a_changed_total_requests_the_queues_again() -> None:
    spend = {(n, "A"): {8: 10, 22: 4} for n in range(6)}
    first = sync(Service(spend))
    service = Service(spend | {(1, "A"): {8: 10, 22: 6}})
    service.last_hour[1, None] = 20
    assert sync(service, first).requested_on(1) == ["1*", "1*@22", "1A"]


def test_outstanding_hours_of_a_queue_are_requested_once_another_day_verifies_it() -> None:
    # On day 5 the 23 hours of B equal the total, as those of an unknown name would; day 6 verifies B.
    service = Service({(5, "B"): {8: 10, 23: 2}, (6, "A"): {8: 10}, (6, "B"): {9: 3}}, unknown_queue="totals")
    service.last_hour[5, "B"] = 22
    first = sync(service, known_queues=("B", "A"))
    assert first.requested_on(5, 6) == ["5*", "5?", "5B", "5A", "6*", "6B", "5B@23", "6A"]
    assert first.day_states[ago(5)].is_explained
    assert sync(service, first, known_queues=("B", "A")).requested_on(5, 6) == []


def test_a_day_with_an_outstanding_hour_of_a_queue_is_visited_by_the_next_run() -> None:
    service = Service({(5, "B"): {8: 10, 23: 2}, (6, "A"): {8: 10}, (6, "B"): {9: 3}}, unknown_queue="totals")
    service.last_hour[5, "B"] = 22
    limit = sync(service, known_queues=("B", "A")).requested.index("5B@23")
    limited = SimulatedSync(sync_options(known_queues=("B", "A"), max_requests=limit), service)
    assert limited.run() is StopReason.LIMIT
    again = sync(service, limited, known_queues=("B", "A"))
    assert "5B@23" in again.requested
    assert again.day_states[ago(5)].is_explained


# ---------------------------------------------------------------- over-allocated days


def test_queues_that_exceed_the_total_are_rechecked_once_per_run() -> None:
    service = Service(SIX_DAYS)
    service.extra_total[4, 8] = -3
    run = sync(service)
    assert run.requested_on(4) == ["4*", "4A", "4*", "4A"]
    assert run.day_states[ago(4)].over_allocated_dimensions


def test_queues_that_exceed_the_total_in_an_hour_outside_the_response_are_rechecked_there_too() -> None:
    service = Service({(1, "A"): {8: 10, 23: 5}, (1, "B"): {9: 4, 23: 5}, (0, "A"): {8: 1}})
    service.last_hour = {(1, name): 22 for name in (None, "A", "B")}
    first = sync(service)
    assert first.day_states[ago(1)].is_explained
    service.spend[1, "A"] = {8: 10, 23: 2}
    run = sync(service, first)
    assert run.day_states[ago(1)].is_explained
    assert run.day_states[ago(1)].outstanding == ()


def test_apps_that_exceed_the_total_are_rechecked_with_it_but_without_the_queues() -> None:
    service = Service(SIX_DAYS | {(4, "#7"): {8: 11}})
    run = sync(service, configured=(app("7"),))
    assert run.requested_on(4) == ["4*", "4A", "4#7", "4*", "4#7"]
    assert run.day_states[ago(4)].over_allocated_dimensions == {Dimension.APP}
    assert run.day_states[ago(4)].is_explained


def test_a_closed_over_allocated_day_is_visited_by_every_run() -> None:
    service = Service(SIX_DAYS)
    service.extra_total[5, 8] = -3
    first = sync(service)
    service.extra_total.clear()
    run = sync(service, first)
    assert run.requested == ["0*", "1*", "2*", "3*", "5*", "5A"]
    assert not run.day_states[ago(5)].over_allocated_dimensions


# ---------------------------------------------------------------- days ahead

TWENTY_DAYS = range(1, 21)
AHEAD = [n for n in TWENTY_DAYS if ago(n).toordinal() % 8 == 0]
"""Every eighth day: 6 and 14 days ago."""


def test_every_eighth_day_is_requested_before_the_days_between_it_and_the_spend_found_so_far() -> None:
    run = sync(Service({(n, "A"): {8: 10} for n in TWENTY_DAYS}), concurrency=8)
    order = [one for one in run.requested_containing("A") if one != "0A"]
    assert AHEAD == [6, 14]
    assert order.index("6A") < order.index("3A")
    assert order.index("14A") < order.index("8A")
    assert sorted(order) == sorted(f"{n}A" for n in TWENTY_DAYS)


def test_a_queue_is_not_requested_ahead_if_the_price_suggests_another_queue() -> None:
    spend = {(n, "A" if n < 11 else "B"): {8: 10} for n in TWENTY_DAYS}
    service = Service(spend, unknown_queue="zeros")
    service.prices = {"A": 1, "B": 2}
    run = sync(service, concurrency=8)
    assert sorted(run.requested_containing("A")) == sorted(f"{n}A" for n in range(1, 12))


def test_a_queue_is_not_requested_ahead_if_a_day_between_suggests_another_queue() -> None:
    spend = {(n, "A"): {8: 10} for n in TWENTY_DAYS if n != 12} | {(12, "B"): {8: 90}}
    run = sync(Service(spend, unknown_queue="zeros"), concurrency=8)
    order = run.requested_containing("A")
    assert order.index("14A") > order.index("11A")


def test_a_wrong_request_ahead_is_the_only_one_that_finds_nothing() -> None:
    spend = {(n, "A" if n < 11 else "B"): {8: 10} for n in TWENTY_DAYS}
    run = sync(Service(spend, unknown_queue="zeros"), concurrency=8)
    assert sorted(run.requested_containing("A")) == sorted([f"{n}A" for n in range(1, 12)] + ["14A"])
    assert all(run.day_states[ago(n)].is_explained for n in TWENTY_DAYS)


def test_the_last_day_is_requested_before_the_days_between_too() -> None:
    run = sync(Service({(n, "A"): {8: 10} for n in TWENTY_DAYS}), concurrency=8, since=ago(19))
    order = run.requested_containing("A")
    assert order.index("19A") < order.index("16A")
