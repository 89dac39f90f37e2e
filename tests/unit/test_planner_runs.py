"""When a run of the planner ends, what it completes, and how many requests it expects."""

from dataclasses import replace
from datetime import datetime

import pytest

from etl.extract import planner
from etl.extract.planner import Done, StopReason, StoredState
from etl.models import TOTAL, ErrorScope, Outcome, Snapshot, Window, queue
from tests.unit.planner_service import NOW, SIX_DAYS, Service, SimulatedSync, ago, sync, sync_options

# ---------------------------------------------------------------- errors


def test_a_rejected_account_gets_no_further_request() -> None:
    service = Service(SIX_DAYS)
    service.errors[0, None] = ("ERROR_KEY_DOES_NOT_EXIST", ErrorScope.ACCOUNT)
    run = SimulatedSync(sync_options(concurrency=8), service)
    assert run.run() is StopReason.ACCOUNT_REJECTED
    assert run.requested == ["0*"]
    assert run.state.stopped_by is not None


def test_an_account_rejected_during_a_run_starts_no_new_day() -> None:
    service = Service(SIX_DAYS)
    service.errors[3, None] = ("ERROR_IP_BLOCKED", ErrorScope.ACCOUNT)
    run = SimulatedSync(sync_options(concurrency=4), service)
    assert run.run() is StopReason.ACCOUNT_REJECTED
    assert "8*" not in run.requested


def test_a_run_stops_after_five_windows_in_a_row_with_one_code_or_25_with_any() -> None:
    service = Service({})
    service.errors = {(n, None): ("timeout", None) for n in range(40)}
    same = SimulatedSync(sync_options(), service)
    assert same.run() is StopReason.TOO_MANY_FAILURES
    assert same.requested == [f"{n}*" for n in range(5)]
    service.errors = {(n, None): (f"http_{500 + n % 2}", None) for n in range(40)}
    any_code = SimulatedSync(sync_options(), service)
    assert any_code.run() is StopReason.TOO_MANY_FAILURES
    assert any_code.requested == [f"{n}*" for n in range(25)]
    for success in (24, 49):
        service.errors |= {(n, None): (f"http_{500 + n % 2}", None) for n in range(success - 24, success)}
        service.errors.pop((success, None), None)
    interrupted = SimulatedSync(sync_options(since=ago(60)), service)
    assert interrupted.run() is StopReason.DONE


def test_the_first_error_that_rejects_the_account_is_reported() -> None:
    service = Service(SIX_DAYS)
    service.errors[3, None] = ("ERROR_IP_BLOCKED", ErrorScope.ACCOUNT)
    service.errors[4, None] = ("ERROR_KEY_DOES_NOT_EXIST", ErrorScope.ACCOUNT)
    run = SimulatedSync(sync_options(concurrency=4), service)
    assert run.run() is StopReason.ACCOUNT_REJECTED
    assert run.state.stopped_by is not None
    assert run.state.stopped_by.code == "ERROR_IP_BLOCKED"


def test_a_stopped_run_has_days_left() -> None:
    service = Service(SIX_DAYS)
    service.errors[3, None] = ("ERROR_IP_BLOCKED", ErrorScope.ACCOUNT)
    run = SimulatedSync(sync_options(concurrency=4), service)
    assert run.run() is StopReason.ACCOUNT_REJECTED
    assert run.state.days_left > 0
    assert sync(Service(SIX_DAYS)).state.days_left == 0


@pytest.mark.parametrize("scope", [ErrorScope.WINDOW, None])
def test_the_same_error_on_five_windows_in_a_row_stops_the_account(scope: ErrorScope | None) -> None:
    service = Service(SIX_DAYS)
    for n in range(2, 20):
        service.errors[n, None] = ("http_502", scope)
    run = SimulatedSync(sync_options(), service)
    assert run.run() is StopReason.TOO_MANY_FAILURES
    assert run.requested[-5:] == ["2*", "3*", "4*", "5*", "6*"]


def test_too_many_failures_in_a_row_stop_the_account_whatever_their_codes() -> None:
    service = Service({(0, "A"): {8: 1}})
    for n in range(1, 200):
        service.errors[n, None] = (f"error {n % 3}", None)
    run = SimulatedSync(sync_options(), service)
    assert run.run() is StopReason.TOO_MANY_FAILURES
    assert run.requested[-1] == f"{planner.MAX_FAILURES}*"


def test_partial_totals_stop_the_account_like_other_failures() -> None:
    class Partial(Service):
        def respond(self, window: Window, number: int, requested_at: datetime) -> Snapshot:
            snapshot = super().respond(window, number, requested_at)
            return replace(snapshot, outcome=Outcome.PARTIAL, code="rejected_records")

    run = SimulatedSync(sync_options(), Partial(SIX_DAYS))
    assert run.run() is StopReason.TOO_MANY_FAILURES
    assert len(run.sent) == planner.MAX_SAME_FAILURES
    three_days = SimulatedSync(sync_options(since=ago(2)), Partial(SIX_DAYS))
    assert three_days.run() is StopReason.DONE


def test_one_failed_window_does_not_stop_the_others_and_is_requested_by_the_next_run() -> None:
    service = Service(SIX_DAYS)
    service.errors[4, "A"] = ("timeout", None)
    first = sync(service)
    assert first.day_states[ago(4)].is_failed
    service.errors.clear()
    assert sync(service, first).requested == ["0*", "1*", "2*", "3*", "4A"]


# ---------------------------------------------------------------- limits


def test_max_requests_stops_a_run_and_the_next_one_goes_on() -> None:
    first = SimulatedSync(sync_options(max_requests=6), Service(SIX_DAYS))
    assert first.run() is StopReason.LIMIT
    assert len(first.sent) == 6
    again = sync(Service(SIX_DAYS), first)
    assert [label for label in again.requested if label in first.requested] == ["0*", "1*", "2*"]


def test_a_limit_of_exactly_enough_requests_is_not_reached() -> None:
    enough = len(sync(Service(SIX_DAYS)).sent)
    assert SimulatedSync(sync_options(max_requests=enough), Service(SIX_DAYS)).run() is StopReason.DONE


def test_a_limit_of_exactly_enough_requests_is_not_reached_by_a_waiting_day() -> None:
    service = Service({(0, "Unlisted"): {8: 1}}, unknown_queue="zeros")
    enough = len(sync(service, since=ago(1)).sent)
    assert SimulatedSync(sync_options(since=ago(1), max_requests=enough), service).run() is StopReason.DONE


# ---------------------------------------------------------------- completed days


def test_days_that_need_no_request_are_completed() -> None:
    first = sync(Service(SIX_DAYS))
    state = planner.start(sync_options(until=ago(4)), replace(first.stored(), final=frozenset()))
    state, step = planner.next_windows(state, capacity=1)
    assert step == Done(StopReason.DONE)
    assert state.completed_days == (ago(4), ago(5), ago(6), ago(7), ago(8))


def test_snapshots_are_grouped_by_day_in_order_and_a_total_is_a_group_of_its_own() -> None:
    requests = [(2, "A"), (1, "A"), (2, None), (2, "B"), (1, "B"), (2, "C"), (1, None)]
    windows = [Window.whole_day("default", queue(name) if name else TOTAL, ago(days)) for days, name in requests]
    snapshots = [Snapshot(number, window, NOW, Outcome.SUCCESS) for number, window in enumerate(windows, start=1)]
    groups = [[snapshot.number for snapshot in group] for group in planner.group_by_day(snapshots)]
    assert groups == [[1], [3], [4, 6], [2, 5], [7]]


# ---------------------------------------------------------------- estimates


def test_the_estimate_for_a_known_history_bounds_the_number_of_requests() -> None:
    first = sync(Service(SIX_DAYS))
    expected = planner.estimate(planner.start(sync_options(), first.stored()))
    sent = len(sync(Service(SIX_DAYS), first).sent)
    assert expected.at_most is not None
    assert expected.at_least <= sent <= expected.at_most
    assert (expected.days, expected.at_least) == (4, 4)


def test_the_estimate_for_an_unknown_history_has_no_upper_bound_without_since() -> None:
    assert planner.estimate(planner.start(sync_options(), StoredState())).at_most is None
    expected = planner.estimate(planner.start(sync_options(since=ago(9)), StoredState()))
    assert (expected.days, expected.at_least, expected.at_most) == (10, 10, 10 * 4 + 1)
