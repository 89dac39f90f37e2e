"""Which queue names the planner requests, verifies and excludes."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from etl.extract import planner
from etl.extract.planner import NONEXISTENT_MEMBERS, DayPlan, Members, StopReason, StoredState
from etl.extract.planner.members import (
    apply_unknown_name_behaviour,
    classify,
    equals_total,
    has_price,
    rank_candidates,
    refresh_candidates,
    unknown_name_behaviour,
)
from etl.extract.planner.unknown_names import apply_probe
from etl.hour_values import HourValues
from etl.models import (
    HOUR,
    ActivePeriod,
    DayState,
    Dimension,
    ErrorScope,
    Measures,
    MemberStatus,
    Outcome,
    Record,
    Snapshot,
    UnknownNameAnswer,
    UnknownNameBehaviour,
    Window,
    app,
    day_start,
    queue,
)
from tests.core import hour_values, measures_by_hour
from tests.unit.planner_service import NOW, SIX_DAYS, TODAY, Service, SimulatedSync, Spend, ago, sync, sync_options

# ---------------------------------------------------------------- verified, unverified and excluded names


def test_a_name_with_the_error_of_unknown_names_is_excluded_and_never_requested_again() -> None:
    spend = {(n, "B"): {8: 1} for n in range(4)}
    run = sync(Service(spend))
    assert run.state.members.member_statuses[queue("A")] is MemberStatus.EXCLUDED
    assert run.requested_containing("A") == ["1A"]
    assert sync(Service(spend), run).requested_containing("A") == []


def test_if_unknown_names_get_totals_a_name_that_repeats_the_total_is_unverified() -> None:
    run = sync(Service(SIX_DAYS, unknown_queue="totals"), configured=(queue("Typo"),), known_queues=())
    assert run.state.members.unknown_name_behaviours[Dimension.QUEUE].answer is UnknownNameAnswer.TOTALS
    assert run.state.members.member_statuses[queue("Typo")] is MemberStatus.UNVERIFIED
    assert all(not day_state.is_explained for day_state in run.day_states.values() if day_state.has_spend)


def test_if_unknown_names_get_totals_one_different_response_verifies_a_name() -> None:
    spend = {(n, name): {8: 1} for n in range(3) for name in ("A", "B")}
    run = sync(Service(spend, unknown_queue="totals"), known_queues=("A", "B"))
    statuses = run.state.members.member_statuses
    assert (statuses[queue("A")], statuses[queue("B")]) == (MemberStatus.VERIFIED, MemberStatus.VERIFIED)


def status_after(
    response: Spend, total: Spend, delay: timedelta = timedelta(minutes=1), is_closed: bool = True
) -> MemberStatus:
    """The status of a name after its response on a closed day with this total, if unknown names get totals.

    ``delay`` is the time from the total's request to the name's.
    """
    midnight = day_start(ago(1))
    members = Members(unknown_name_behaviours={Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.TOTALS)})
    total_by_hour = measures_by_hour({n: Measures(tasks, Decimal(tasks)) for n, tasks in total.items()})
    day_state = DayState(ago(1), is_closed=is_closed, total_requested_at=NOW, total_by_hour=total_by_hour)
    records = tuple(Record(midnight + n * HOUR, tasks, Decimal(tasks)) for n, tasks in response.items())
    window = Window.whole_day("default", queue("A"), ago(1))
    snapshot = Snapshot(2, window, NOW + delay, Outcome.SUCCESS, hour_values(records, ago(1)))
    return classify(members, snapshot, day_state).member_statuses[queue("A")]


def test_part_of_the_total_verifies_a_name_and_more_than_the_total_does_not() -> None:
    assert status_after({3: 4, 4: 1}, {3: 5, 4: 1}) is MemberStatus.VERIFIED
    assert status_after({3: 5, 4: 1}, {3: 5, 4: 1}) is MemberStatus.UNVERIFIED
    assert status_after({3: 6, 4: 0}, {3: 5, 4: 1}) is MemberStatus.UNVERIFIED


def test_a_difference_on_a_day_that_is_not_closed_does_not_verify_a_name() -> None:
    assert status_after({3: 4}, {3: 5}, is_closed=False) is MemberStatus.UNVERIFIED


def test_only_spend_with_volume_and_money_has_a_price() -> None:
    assert has_price(Measures(1, Decimal("0.000000001")))
    assert not any(map(has_price, (Measures(0, Decimal(1)), Measures(1, Decimal(0)), Measures(1, Decimal(-1)))))


def test_a_name_is_compared_with_a_total_of_the_last_ten_minutes() -> None:
    assert status_after({3: 4}, {3: 5}, delay=timedelta(minutes=10)) is MemberStatus.VERIFIED
    assert status_after({3: 4}, {3: 5}, delay=timedelta(minutes=10, seconds=1)) is MemberStatus.UNVERIFIED


def test_an_empty_response_verifies_a_name_only_on_the_day_the_total_was_requested() -> None:
    assert status_after({}, {3: 5}) is MemberStatus.VERIFIED
    assert status_after({}, {3: 5}, delay=timedelta(hours=20)) is MemberStatus.UNVERIFIED


def test_a_difference_from_an_old_total_does_not_verify_a_name() -> None:
    spend = {(n, name): {8: 1} for n in range(3) for name in ("A", "B")}
    first = sync(Service(spend, unknown_queue="totals"), known_queues=(), totals_only=True)
    behaviours = {Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.TOTALS)}
    state = planner.start(sync_options(), replace(first.stored(), unknown_name_behaviours=behaviours))

    def status_after_request(requested_at: datetime) -> MemberStatus:
        snapshot = Snapshot(99, Window.whole_day("default", queue("A"), ago(2)), requested_at, Outcome.SUCCESS)
        after = planner.classify_name(state, snapshot, first.day_states[ago(2)])
        return after.members.member_statuses[queue("A")]

    assert status_after_request(NOW + HOUR) is MemberStatus.UNVERIFIED
    assert status_after_request(NOW + timedelta(seconds=30)) is MemberStatus.VERIFIED


def test_a_partial_response_does_not_verify_a_name_if_unknown_names_get_totals() -> None:
    class PartialForTypo(Service):
        def respond(self, window: Window, number: int, requested_at: datetime) -> Snapshot:
            snapshot = super().respond(window, number, requested_at)
            is_typo = window.series == queue("Typo")
            return replace(snapshot, outcome=Outcome.PARTIAL, code="rejected_records") if is_typo else snapshot

    run = sync(PartialForTypo(SIX_DAYS, unknown_queue="totals"), configured=(queue("Typo"),), known_queues=())
    assert not any(queue("Typo") in day_state.active_members for day_state in run.day_states.values())


def test_a_name_trusted_by_the_user_is_verified_at_once() -> None:
    run = sync(Service(SIX_DAYS, unknown_queue="totals"), trusted=(queue("A"),), known_queues=())
    assert run.day_states[ago(1)].is_explained


def after_an_error(code: str, status: MemberStatus | None) -> Members:
    """Names after an error for the queue A, which the user requests although it has this status."""
    statuses = {} if status is None else {queue("A"): status}
    members = Members(
        order=(queue("A"),),
        member_statuses=statuses,
        unknown_name_behaviours={Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ERROR, "ERROR_QUEUE")},
        requested_by_user=frozenset({queue("A")}),
    )
    window = Window.whole_day("default", queue("A"), ago(1))
    snapshot = Snapshot(2, window, NOW, Outcome.API_ERROR, code=code, error_scope=ErrorScope.WINDOW)
    return classify(refresh_candidates(members), snapshot, DayState(ago(1)))


def test_an_excluded_name_requested_by_the_user_is_a_candidate_until_it_is_refused_again() -> None:
    assert after_an_error("ERROR_QUEUE", MemberStatus.EXCLUDED).candidates[Dimension.QUEUE] == frozenset()


def test_an_error_that_shows_nothing_about_a_name_requested_by_the_user_changes_nothing() -> None:
    after = after_an_error("ERROR_OTHER", None)
    assert after.candidates[Dimension.QUEUE] == {queue("A")}
    assert after.member_statuses == {}


def test_a_verified_queue_with_the_error_of_unknown_names_fails_and_is_not_excluded() -> None:
    service = Service(SIX_DAYS | {(n, "B"): {3: 1} for n in range(6)})
    first = sync(service)
    assert first.state.members.unknown_name_behaviours[Dimension.QUEUE].code == "ERROR_QUEUE"
    service.errors[1, "A"] = ("ERROR_QUEUE", ErrorScope.WINDOW)
    service.extra_total[1, 8] = 1
    again = sync(service, first)
    assert again.state.members.member_statuses[queue("A")] is MemberStatus.VERIFIED
    assert again.day_states[ago(1)].is_failed


def test_if_unknown_names_get_totals_a_new_name_is_compared_with_a_new_total() -> None:
    spend = SIX_DAYS | {(4, "New"): {3: 7}}
    first = sync(Service(spend, unknown_queue="totals"), known_queues=("A", "B"))
    run = sync(Service(spend, unknown_queue="totals"), first, configured=(queue("New"),), known_queues=("A", "B"))
    assert run.requested_on(4)[:1] == ["4*"]
    assert run.state.members.member_statuses[queue("New")] is MemberStatus.VERIFIED


# ---------------------------------------------------------------- names that the API begins to refuse

NAMES = tuple(f"Unknown {n}" for n in range(20))


def after_zeros(
    concurrency: int = 1, errors: tuple[str, ...] = (), unknown_queue: str = "error", **changes: object
) -> SimulatedSync:
    """A sync after one in which unknown names gave zeros; yesterday's total now has tasks that no queue explains.

    ``errors`` are queues that are refused yesterday, whatever unknown names give.
    """
    service, names = Service(SIX_DAYS, unknown_queue="zeros"), ("A", *NAMES)
    service.extra_total[3, 8] = 1  # every name is requested on this day
    first = sync(service, known_queues=names)
    assert {first.state.members.member_statuses[queue(name)] for name in names} == {MemberStatus.VERIFIED}
    service.unknown_queue = unknown_queue
    service.extra_total[1, 8] = 1
    service.errors |= {(1, name): ("ERROR_QUEUE", ErrorScope.WINDOW) for name in errors}
    run = SimulatedSync(sync_options(known_queues=names, concurrency=concurrency, **changes), service, first)
    run.run()
    return run


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_names_without_spend_that_the_api_begins_to_refuse_are_excluded(concurrency: int) -> None:
    run = after_zeros(concurrency)
    assert run.state.stop_reason is None
    assert run.state.members.unknown_name_behaviours[Dimension.QUEUE].code == "ERROR_QUEUE"
    assert len(run.requested_containing("?")) == 1
    statuses = {name: run.state.members.member_statuses[queue(name)] for name in ("A", *NAMES)}
    assert statuses == {"A": MemberStatus.VERIFIED, **dict.fromkeys(NAMES, MemberStatus.EXCLUDED)}
    assert not any(day_state.is_failed for day_state in run.day_states.values())
    requests = [run.requested_on(1).count(f"1{name}") for name in NAMES]
    assert max(requests) == 2  # those refused before the answer to a name that cannot exist
    assert requests.count(2) <= concurrency


def test_a_refused_name_without_spend_fails_its_day_if_names_that_cannot_exist_are_not_refused() -> None:
    run = after_zeros(errors=NAMES[:2], unknown_queue="zeros")
    assert len(run.requested_containing("?")) == 1
    assert {*run.state.members.member_statuses.values()} == {MemberStatus.VERIFIED}
    assert run.day_states[ago(1)].failed == {queue(name) for name in NAMES[:2]}
    assert [run.requested_on(1).count(f"1{name}") for name in NAMES] == [1] * 20


def test_a_new_name_with_the_known_error_of_unknown_names_makes_nothing_uncertain() -> None:
    service = Service(SIX_DAYS)
    first = sync(service, known_queues=("A",))
    service.extra_total[1, 8] = 1
    run = sync(service, first, known_queues=("A",), configured=(queue("New"),))
    assert "1New" in run.requested
    assert run.requested_containing("?") == []


def test_an_empty_response_for_a_name_on_a_day_without_a_total_makes_nothing_uncertain() -> None:
    behaviours = {Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ZEROS)}
    members = Members(order=(queue("A"),), unknown_name_behaviours=behaviours)
    snapshot = Snapshot(2, Window.whole_day("default", queue("A"), ago(1)), NOW, Outcome.SUCCESS)
    after = classify(members, snapshot, DayState(ago(1)))
    assert after.member_statuses == {queue("A"): MemberStatus.VERIFIED}


def test_if_a_name_with_spend_is_refused_too_no_name_is_excluded() -> None:
    run = after_zeros(errors=("A",))
    assert run.state.stop_reason is StopReason.TOO_MANY_FAILURES
    assert run.requested_containing("?") == []
    assert MemberStatus.EXCLUDED not in run.state.members.member_statuses.values()
    assert run.state.members.unknown_name_behaviours[Dimension.QUEUE].answer is UnknownNameAnswer.ZEROS


def test_a_trusted_name_that_the_api_begins_to_refuse_fails_its_day() -> None:
    trusted = queue(NAMES[7])
    run = after_zeros(trusted=(trusted,))
    assert run.state.members.member_statuses[trusted] is MemberStatus.VERIFIED
    assert run.day_states[ago(1)].failed == {trusted}


@pytest.mark.parametrize("before", ["zeros", "error"])
@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_names_without_spend_get_no_money_once_the_api_returns_totals_for_unknown_names(
    before: str, concurrency: int
) -> None:
    spend = {(n, "A"): {8: 10, 9: 5} for n in range(9)}
    service = Service(spend, unknown_queue=before)
    names = ("A", *NAMES)
    first = sync(service, known_queues=("A", *NAMES[:5]))
    service.unknown_queue = "totals"
    service.spend |= {(n, "New"): {20: 3 + n} for n in range(2, 6)}  # nobody listed it; their totals have changed
    run = SimulatedSync(sync_options(known_queues=names, concurrency=concurrency), service, first)
    assert run.run() is StopReason.DONE
    assert len(run.requested_containing("?")) == 1
    members = run.state.members
    assert members.unknown_name_behaviours[Dimension.QUEUE].answer is UnknownNameAnswer.TOTALS
    assert {members.member_statuses[queue(name)] for name in names[1:] if queue(name) in members.member_statuses} <= {
        MemberStatus.UNVERIFIED,
        MemberStatus.EXCLUDED,
    }
    for n in range(9):
        assert run.day_states[ago(n)].active_members == {queue("A")}
        assert not run.day_states[ago(n)].over_allocated_dimensions


@pytest.mark.parametrize(("hours", "is_uncertain"), [({3: 10, 9: 6}, True), ({3: 9, 9: 5}, False), ({3: 10}, True)])
def test_a_name_that_gets_the_total_of_the_hours_of_today_that_are_over_is_unverified(
    hours: Spend, is_uncertain: bool
) -> None:
    """The total was requested a little earlier, so its running hour may have less."""
    series = queue("A")
    behaviours = {Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ZEROS)}
    members = Members(order=(series,), unknown_name_behaviours=behaviours)
    snapshot = Snapshot(
        2,
        Window.whole_day("default", series, TODAY),
        NOW,
        Outcome.SUCCESS,
        hour_values((Record(day_start(TODAY) + n * HOUR, hours.get(n, 0), Decimal(0)) for n in range(10)), TODAY),
    )
    total = hour_values(
        (Record(day_start(TODAY) + n * HOUR, {3: 10, 9: 5}.get(n, 0), Decimal(0)) for n in range(10)), TODAY
    )
    status = classify(members, snapshot, DayState(TODAY, total_by_hour=total)).member_statuses[series]
    assert status is (MemberStatus.UNVERIFIED if is_uncertain else MemberStatus.VERIFIED)


def test_if_unknown_names_get_totals_a_name_verified_by_zeros_stays_verified_when_it_has_all_the_spend() -> None:
    service = Service(SIX_DAYS, unknown_queue="totals")
    service.spend[9, "B"] = {3: 1}  # so that the API knows the queue
    service.extra_total[2, 8] = 1  # all names are requested on this day
    first = sync(service, known_queues=("A", "B"), since=ago(5))
    assert first.state.members.member_statuses[queue("B")] is MemberStatus.VERIFIED
    del service.spend[1, "A"]
    service.spend[1, "B"] = {10: 7}
    run = sync(service, first, known_queues=("A", "B"), since=ago(5))
    assert run.state.members.member_statuses[queue("B")] is MemberStatus.VERIFIED
    assert run.day_states[ago(1)].active_members == {queue("B")}
    assert run.day_states[ago(1)].is_explained


def test_if_unknown_names_now_get_totals_only_verified_names_without_spend_are_unverified() -> None:
    a, b, c, d, trusted, of_app = *map(queue, "ABCD"), queue("T"), app("7")
    before = {a: MemberStatus.VERIFIED, b: MemberStatus.EXCLUDED, c: MemberStatus.RETIRED, d: MemberStatus.VERIFIED}
    before |= dict.fromkeys((trusted, of_app), MemberStatus.VERIFIED)
    members = Members(
        member_statuses=before,
        unknown_name_behaviours={Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ZEROS)},
        active_periods={d: (ActivePeriod(ago(9), ago(9)),)},
        trusted=frozenset({trusted}),
    )
    totals, error = UnknownNameBehaviour(UnknownNameAnswer.TOTALS), UnknownNameBehaviour(UnknownNameAnswer.ERROR, "E")
    after = apply_unknown_name_behaviour(members, Dimension.QUEUE, totals)
    assert after.member_statuses == before | {a: MemberStatus.UNVERIFIED}
    assert after.unknown_name_behaviours == {Dimension.QUEUE: totals}
    assert apply_unknown_name_behaviour(members, Dimension.QUEUE, error).member_statuses == before
    known = replace(members, unknown_name_behaviours={Dimension.QUEUE: totals})
    assert apply_unknown_name_behaviour(known, Dimension.QUEUE, totals).member_statuses == before


def test_names_that_wait_for_capacity_are_not_requested_once_their_day_is_explained() -> None:
    service = Service({(2, "B"): {8: 5}}, unknown_queue="zeros")
    service.extra_total[1, 8] = 1  # no queue explains it, so older days request all names at once
    run = sync(service, known_queues=("B", "C", "D"), concurrency=2)
    assert run.requested_on(2) == ["2*", "2B", "2C"]


@pytest.mark.parametrize("behaviour", ["zeros", "error"])
def test_a_new_queue_with_all_the_spend_of_a_day_counts_once_names_that_cannot_exist_are_requested_again(
    behaviour: str,
) -> None:
    service = Service({(n, "A"): {8: 10} for n in range(2, 6)}, unknown_queue=behaviour)
    first = sync(service, known_queues=("A", "B"))
    service.spend[1, "B"] = {9: 7}
    run = sync(service, first, known_queues=("A", "B"))
    assert run.requested_on(1) == ["1*", "1A", "1B", "1?", "1B"]
    assert run.day_states[ago(1)].active_members == {queue("B")}
    assert run.day_states[ago(1)].is_explained
    service.spend[0, "B"] = {3: 7}
    again = sync(service, run, known_queues=("A", "B"))
    assert again.requested_containing("?") == []  # it has had spend


# ---------------------------------------------------------------- what the API gives for unknown names


def test_zeros_show_nothing_unless_the_total_has_tasks_in_these_hours() -> None:
    midnight = day_start(ago(1))
    zeros = tuple(Record(midnight + n * HOUR, 0, Decimal(0)) for n in range(23))
    window = Window.whole_day("default", NONEXISTENT_MEMBERS[Dimension.QUEUE], ago(1))
    snapshot = Snapshot(2, window, NOW, Outcome.SUCCESS, hour_values(zeros, ago(1)))

    def behaviour(hour: int, total: Measures) -> UnknownNameBehaviour | None:
        return unknown_name_behaviour(snapshot, DayState(ago(1), total_by_hour=measures_by_hour({hour: total})))

    assert behaviour(23, Measures(5, Decimal(1))) is None
    assert behaviour(3, Measures(5, Decimal(1))) == UnknownNameBehaviour(UnknownNameAnswer.ZEROS)
    assert behaviour(3, Measures(0, Decimal(-1))) is None  # a refund
    assert behaviour(3, Measures(0, Decimal(1))) is None
    assert behaviour(3, Measures(1, Decimal(0))) == UnknownNameBehaviour(UnknownNameAnswer.ZEROS)


def test_a_probe_without_records_shows_nothing_unless_the_total_was_requested_on_the_same_utc_day() -> None:
    window = Window.whole_day("default", NONEXISTENT_MEMBERS[Dimension.IP], ago(5))
    snapshot = Snapshot(2, window, NOW, Outcome.SUCCESS)
    total = measures_by_hour({3: Measures(5, Decimal(1))})
    stored = DayState(ago(5), total_requested_at=NOW - timedelta(days=1), total_by_hour=total)
    assert unknown_name_behaviour(snapshot, stored) is None  # the API may no longer return that day
    recent = replace(stored, total_requested_at=NOW - HOUR)
    assert unknown_name_behaviour(snapshot, recent) == UnknownNameBehaviour(UnknownNameAnswer.ZEROS)


def test_a_probe_with_rejected_records_shows_nothing() -> None:
    window = Window.whole_day("default", NONEXISTENT_MEMBERS[Dimension.IP], ago(5))
    spend = hour_values([Record(day_start(ago(5)), 5, Decimal(1))], ago(5))
    snapshot = Snapshot(2, window, NOW, Outcome.PARTIAL, spend)
    day_state = DayState(ago(5), total_requested_at=NOW, total_by_hour=spend)
    assert unknown_name_behaviour(snapshot, day_state) is None
    totals = unknown_name_behaviour(replace(snapshot, outcome=Outcome.SUCCESS), day_state)
    assert totals == UnknownNameBehaviour(UnknownNameAnswer.TOTALS)


def test_a_transient_error_shows_nothing_about_unknown_names() -> None:
    service = Service(SIX_DAYS)
    service.errors[0, NONEXISTENT_MEMBERS[Dimension.QUEUE].member] = ("ERROR_NO_SLOT_AVAILABLE", ErrorScope.TRANSIENT)
    run = sync(service)
    assert Dimension.QUEUE not in run.state.members.unknown_name_behaviours
    assert run.requested == ["0*", "0?", *(f"{n}*" for n in range(1, 9))]
    service.errors.clear()
    assert "0?" in sync(service, run).requested


def test_an_unknown_app_is_probed_before_final_days_request_a_new_app() -> None:
    first = sync(Service(SIX_DAYS), until=ago(4))
    assert sync(Service(SIX_DAYS), first, until=ago(4), configured=(app("7"),)).requested == ["4#?", "4#7", "5#7"]


# ---------------------------------------------------------------- discovery of queues


def test_an_older_queue_is_discovered_once_and_requested_first_from_then_on() -> None:
    spend = SIX_DAYS | {(n, "C"): {4: 1} for n in range(3, 6)}
    assert sync(Service(spend, unknown_queue="zeros")).requested == [
        "0*", "0?", "1*", "1A", "0A", "2*", "2A", "3*", "3A", "3B", "3C", "4*", "4A", "4C", "5*", "5A", "5C", "6*", "7*", "8*",
    ]  # fmt: skip


def test_discovery_requests_names_listed_by_the_user_before_known_queues() -> None:
    spend = {(n, "Mine"): {8: 10} for n in range(2)}
    run = sync(Service(spend, unknown_queue="zeros"), configured=(queue("Mine"),))
    assert run.requested[:5] == ["0*", "0?", "1*", "1Mine", "0Mine"]


def test_discovery_requests_each_name_once_per_day() -> None:
    spend = {(1, "Nowhere"): {8: 1}}
    run = sync(Service(spend, unknown_queue="zeros"), known_queues=("A", "B"))
    assert run.requested_on(1) == ["1*", "1?", "1A", "1B"]


def test_the_running_day_discovers_no_queues() -> None:
    run = sync(Service({(0, "B"): {3: 1}}, unknown_queue="zeros"), empty_days=1)
    assert run.requested_on(0) == ["0*", "0?"]


def test_only_a_day_that_discovers_queues_shows_whether_discovery_finds_any() -> None:
    spend = {(0, "Unlisted"): {3: 1}, (1, "A"): {8: 1}}
    assert not sync(Service(spend, unknown_queue="zeros")).state.discovery_found_nothing
    assert sync(Service(spend | {(1, "Unlisted"): {9: 1}}, unknown_queue="zeros")).state.discovery_found_nothing


def test_discovery_starts_with_the_queue_whose_price_fits_the_unattributed_amount() -> None:
    names = ("A", "B", "C", "D")
    spend = {(1, name): {8: 10} for name in names} | {(n, "D"): {8: 10} for n in range(20, 23)}
    service = Service(spend, unknown_queue="zeros")
    service.prices = {"A": 1, "B": 2, "C": 3, "D": 4}
    run = sync(service, known_queues=names, empty_days=30)
    assert run.requested_on(20) == ["20*", "20D"]


def ranked(day: date, total: Mapping[int, Measures], members: Members) -> list[str | None]:
    among = frozenset(members.order)
    return [one.member for one in rank_candidates(members, among, day, measures_by_hour(total))]


def test_a_price_that_differs_counts_three_times_a_volume_that_differs() -> None:
    missing = {8: Measures(100, Decimal("0.1"))}
    last_spend = {queue("price"): Measures(100, Decimal("0.15")), queue("volume"): Measures(280, Decimal("0.28"))}
    members = Members(order=(queue("price"), queue("volume")), last_spend=last_spend)
    assert ranked(ago(1), missing, members) == ["volume", "price"]
    last_spend[queue("volume")] = Measures(350, Decimal("0.35"))
    assert ranked(ago(1), missing, members) == ["price", "volume"]


def test_the_price_of_any_hour_and_the_volume_of_all_hours_are_compared() -> None:
    missing = {8: Measures(50, Decimal("0.05")), 9: Measures(50, Decimal("0.2")), 10: Measures(0, Decimal(-9))}
    last_spend = {queue("A"): Measures(50, Decimal("0.2")), queue("B"): Measures(100, Decimal("0.4"))}
    members = Members(order=(queue("A"), queue("B")), last_spend=last_spend)
    assert ranked(ago(1), missing, members) == ["B", "A"]


def test_hours_without_tasks_or_without_money_have_no_price_to_compare() -> None:
    missing = {8: Measures(50, Decimal("0.2")), 9: Measures(50, Decimal(0)), 10: Measures(50, Decimal("-0.1"))}
    missing[11] = Measures(0, Decimal("0.3"))
    last_spend = {queue("A"): Measures(50, Decimal("0.1")), queue("B"): Measures(50, Decimal("0.2"))}
    assert ranked(ago(1), missing, Members(order=(queue("A"), queue("B")), last_spend=last_spend)) == ["B", "A"]


def test_without_spend_to_compare_the_closest_queue_comes_first_then_the_order_of_the_list() -> None:
    periods = {queue("near"): (ActivePeriod(ago(9), ago(5)),), queue("far"): (ActivePeriod(ago(20), ago(15)),)}
    members = Members(order=tuple(map(queue, ("second", "first", "far", "near"))), active_periods=periods)
    known = replace(members, last_spend={queue("second"): Measures(1, Decimal(1))})
    assert ranked(ago(1), {}, known) == ["near", "far", "second", "first"]


def test_a_run_ranks_queues_by_what_they_last_spent_in_earlier_runs() -> None:
    known = StoredState(last_spend={queue("C"): Measures(10, Decimal("0.01"))})
    state = planner.start(sync_options(), known)
    assert ranked(ago(1), {8: Measures(10, Decimal("0.01"))}, state.members)[0] == "C"


def test_only_one_day_at_a_time_discovers_queues() -> None:
    spend = {(n, "C"): {8: 1} for n in range(1, 9)}
    run = sync(Service(spend, unknown_queue="zeros"), concurrency=4)
    assert [label for label in run.requested if label.endswith(("A", "B"))] == ["1A", "1B"]


def test_after_discovery_found_nothing_days_still_request_recently_active_queues_first() -> None:
    names = tuple("ABCDEFGH")
    spend = {(n, "B"): {8: 10} for n in range(1, 12)} | {(1, "Unlisted"): {9: 1}}
    run = sync(Service(spend, unknown_queue="zeros"), known_queues=names, concurrency=4)
    assert len(run.sent) == 1 + 11 + 3 + 1 + len(names) + 10
    assert sorted(run.requested_on(5, 6)) == ["5*", "5B", "6*", "6B"]


def test_a_waiting_day_goes_on_if_the_day_it_waits_for_needs_no_request() -> None:
    spend = {(n, "A"): {8: 10} for n in range(6)} | {(0, "B"): {3: 1}}
    first = sync(Service(spend, unknown_queue="zeros"))
    assert sync(Service(spend, unknown_queue="zeros"), first, lookback=0).requested == ["0*", "0A"]


# ---------------------------------------------------------------- active periods


def test_an_active_period_spans_a_weekend_but_not_a_month() -> None:
    monday = date(2026, 11, 2)
    active_periods = planner.extend_periods((), monday)
    active_periods = planner.extend_periods(active_periods, monday - timedelta(days=3))
    assert active_periods == (ActivePeriod(monday - timedelta(days=3), monday),)
    assert len(planner.extend_periods(active_periods, monday - timedelta(days=40))) == 2


def test_a_day_between_two_active_periods_merges_them() -> None:
    early, late = ActivePeriod(ago(20), ago(14)), ActivePeriod(ago(2), ago(0))
    assert planner.extend_periods((early, late), ago(8)) == (ActivePeriod(ago(20), ago(0)),)


def test_names_that_cannot_exist_stay_the_same_because_warehouses_know_them() -> None:
    assert {dimension.value: series.member for dimension, series in NONEXISTENT_MEMBERS.items()} == {
        "queue": "no such queue (asked by anticaptcha-etl to learn what unknown names give)",
        "app": "2147483647",
        "ip": "240.0.0.1",
    }


def test_only_an_error_shows_which_names_exist() -> None:
    probe = NONEXISTENT_MEMBERS[Dimension.QUEUE]
    state = planner.start(sync_options(), StoredState())
    behaviours = {Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ZEROS)}
    state = replace(state, members=replace(state.members, unknown_name_behaviours=behaviours))
    window = Window.whole_day("default", probe, TODAY)
    for outcome in Outcome:
        is_expected = planner.is_expected_error(state, Snapshot(1, window, NOW, outcome))
        assert is_expected is (outcome is Outcome.API_ERROR), outcome


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (UnknownNameAnswer.ERROR, {"failed", "unverified"}),
        (UnknownNameAnswer.ZEROS, {"unverified"}),
        (UnknownNameAnswer.TOTALS, set()),
    ],
)
def test_once_it_is_sure_what_unknown_names_get_only_names_without_a_clear_response_are_requested_again(
    answer: UnknownNameAnswer, again: set[str]
) -> None:
    names = {name: queue(name) for name in ("failed", "unverified", "zeros")}
    total = HourValues((1,) * 24, (5,) * 24)
    day_state = DayState(ago(9), total_by_hour=total, total_requested_at=NOW, failed=frozenset({names["failed"]}))
    plan = DayPlan(ago(9), day_state, needs_total=False)
    plan = replace(plan, done_series=frozenset(names.values()))
    state = planner.start(sync_options(), StoredState())
    statuses = {names["unverified"]: MemberStatus.UNVERIFIED}
    behaviours = {Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ZEROS)}
    known = replace(state.members, member_statuses=statuses, unknown_name_behaviours=behaviours)
    state = replace(state, members=known, open_days={ago(9): plan})
    state = apply_probe(state, probe_response(answer), plan.day_state)
    assert state.members.settled == {Dimension.QUEUE}
    assert state.open_days[ago(9)].stale == {names[name] for name in again}


def probe_response(answer: UnknownNameAnswer) -> Snapshot:
    window = Window.whole_day("default", NONEXISTENT_MEMBERS[Dimension.QUEUE], ago(9))
    if answer is UnknownNameAnswer.ERROR:
        return Snapshot(1, window, NOW, Outcome.API_ERROR, code="ERROR_X", error_scope=ErrorScope.WINDOW)
    tasks = int(answer is UnknownNameAnswer.TOTALS)
    return Snapshot(1, window, NOW, Outcome.SUCCESS, HourValues((tasks,) * 24, (tasks,) * 24))


def test_a_failed_response_to_a_name_that_cannot_exist_makes_nothing_sure() -> None:
    name = queue("gives the total")
    state = planner.start(sync_options(), StoredState())
    behaviours = {Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ZEROS)}
    statuses = {name: MemberStatus.UNVERIFIED}
    known = replace(state.members, unknown_name_behaviours=behaviours, member_statuses=statuses)
    state = replace(state, members=known, uncertain=frozenset({Dimension.QUEUE}))
    total = HourValues((1,) * 24, (5,) * 24)
    day_state = DayState(ago(9), total_by_hour=total, is_closed=True)
    window = Window.whole_day("default", NONEXISTENT_MEMBERS[Dimension.QUEUE], ago(9))
    state = apply_probe(state, Snapshot(1, window, NOW, Outcome.FAILED, code="timeout"), day_state)
    assert state.reprobes_due == frozenset(), "not requested again in this run"
    equal = Snapshot(2, Window.whole_day("default", name, ago(9)), NOW, Outcome.SUCCESS, total)
    state = planner.classify_name(state, equal, day_state)
    assert state.members.member_statuses[name] is MemberStatus.UNVERIFIED


def test_a_response_without_spend_is_never_the_total_of_a_day() -> None:
    zeros, one_dollar = HourValues((0,) * 24, (0,) * 24), HourValues((0,) * 24, (0,) * 23 + (1_000_000_000,))
    one_task = HourValues((1,) + (0,) * 23, (0,) * 24)
    for values, is_total in ((zeros, False), (one_task, True), (one_dollar, True)):
        window = Window.whole_day("default", queue("A"), ago(9))
        snapshot = Snapshot(1, window, NOW, Outcome.SUCCESS, values)
        day_state = DayState(ago(9), total_by_hour=values, is_closed=True)
        assert equals_total(snapshot, day_state) is is_total
