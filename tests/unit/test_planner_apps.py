"""How the planner requests apps and IPs: only those listed by the user, each dimension independently."""

from dataclasses import replace

from etl.extract import planner
from etl.extract.planner import Request, StopReason
from etl.models import DAY, HOUR, Dimension, ErrorScope, MemberStatus, Outcome, Snapshot, app, day_start, ip
from etl.transform.reconcile import reconcile
from tests.core import facts_of
from tests.unit.planner_service import NOW, SIX_DAYS, TODAY, Service, SimulatedSync, ago, label, sync, sync_options

APPS = (app("7"), app("8"))
SIX_DAYS_BY_APP = SIX_DAYS | {(n, "#7"): {8: 4} for n in range(6)}
"""Part of the spend of each day is that of app 7."""


def test_an_app_is_requested_on_every_day_with_spend_after_one_that_cannot_exist() -> None:
    run = sync(Service(SIX_DAYS_BY_APP), configured=(app("7"),))
    assert run.requested[:3] == ["0*", "0?", "0#?"]
    assert run.requested_containing("#") == ["0#?", "0#7", "1#7", "2#7", "3#7", "4#7", "5#7"]


def test_only_apps_and_ips_listed_by_the_user_are_requested() -> None:
    first = sync(Service(SIX_DAYS_BY_APP), configured=(app("7"),))
    again = sync(Service(SIX_DAYS_BY_APP), first, without_days={ago(5)})
    assert again.requested_containing("#") == []
    assert "5A" in again.requested


def test_an_app_listed_later_is_requested_for_the_stored_history_and_nothing_else() -> None:
    first = sync(Service(SIX_DAYS_BY_APP))
    run = sync(Service(SIX_DAYS_BY_APP), first, configured=(app("7"),))
    assert run.requested == ["0*", "0#?", "0#7", "1*", "1#7", "2*", "2#7", "3*", "3#7", "4#7", "5#7"]
    assert sync(Service(SIX_DAYS_BY_APP), run, configured=(app("7"),)).requested == ["0*", "1*", "2*", "3*"]


def test_if_some_apps_explain_a_day_the_others_are_not_requested() -> None:
    spend = SIX_DAYS | {(n, "#7"): {8: 10, 9: 5} for n in range(6)}
    run = sync(Service(spend), configured=APPS)
    assert run.requested_containing("#8") == []
    assert all(
        day_state.breakdown(Dimension.APP).is_explained for day_state in run.day_states.values() if day_state.has_spend
    )


def test_dimensions_are_requested_independently() -> None:
    service = Service(SIX_DAYS_BY_APP | {(1, "@192.0.2.1"): {9: 1}})
    run = sync(service, configured=(app("7"), ip("192.0.2.1")), since=ago(1))
    assert sorted(run.requested) == sorted(
        ["0*", "0?", "0#?", "0@?", "0#7", "0@192.0.2.1", "1*", "1#7", "1@192.0.2.1", "1A", "0A"]
    )


def test_a_changed_total_requests_the_apps_of_its_day_again_in_a_run_that_does_not_list_them() -> None:
    first = sync(Service(SIX_DAYS_BY_APP), configured=APPS)
    run = sync(Service(SIX_DAYS_BY_APP | {(2, "A"): {8: 11, 9: 5}}), first)
    assert run.requested == ["0*", "1*", "2*", "2A", "2#7", "3*"]


def test_an_app_is_requested_again_when_its_day_becomes_final() -> None:
    first = sync(Service(SIX_DAYS_BY_APP), configured=(app("7"),))
    run = sync(Service(SIX_DAYS_BY_APP), first, now=NOW + DAY, today=TODAY + DAY)
    assert run.requested == ["-1*", "0*", "1*", "2*", "3*", "3A", "3#7"]
    assert run.day_states[ago(3)].read_since(run.state.options.finalizes_at(ago(3)))


def test_an_app_refused_by_the_api_is_excluded_and_other_apps_are_not() -> None:
    service = Service(SIX_DAYS_BY_APP, unknown_member="error")
    run = sync(service, configured=APPS)
    assert run.state.members.member_statuses[app("8")] is MemberStatus.EXCLUDED
    assert len(run.requested_containing("#8")) == 1
    assert run.requested_containing("#7") == [f"{n}#7" for n in range(6)]
    assert not any(day_state.is_failed for day_state in run.day_states.values())
    assert sync(service, run, configured=APPS, without_days={ago(5)}).requested_containing("#8") == []


def test_an_app_refused_later_is_retired_with_its_stored_values_and_fails_nothing() -> None:
    service = Service(SIX_DAYS_BY_APP)
    first = sync(service, configured=(app("7"),))
    service.spend[0, "A"] = {8: 11, 9: 5}
    service.errors = {(n, "#7"): ("ERROR_ACCESS_DENIED", ErrorScope.SERIES) for n in range(9)}
    run = sync(service, first, configured=(app("7"),))
    assert run.state.members.member_statuses[app("7")] is MemberStatus.RETIRED
    assert run.requested == ["0*", "0A", "0#7", "1*", "2*", "3*"]
    assert not any(day_state.is_failed for day_state in run.day_states.values())
    assert facts_of(reconcile(run.days[ago(0)]))[app("7"), day_start(TODAY) + 8 * HOUR].volume == 4


def test_if_unknown_apps_get_totals_an_app_that_repeats_the_total_is_unverified() -> None:
    run = sync(Service(SIX_DAYS_BY_APP, unknown_member="totals"), configured=APPS)
    member_statuses = run.state.members.member_statuses
    assert (member_statuses[app("7")], member_statuses[app("8")]) == (MemberStatus.VERIFIED, MemberStatus.UNVERIFIED)
    assert all(app("8") not in day_state.active_members for day_state in run.day_states.values())


def test_a_failed_app_window_fails_its_day_and_is_requested_by_the_next_run() -> None:
    service = Service(SIX_DAYS_BY_APP)
    service.errors[4, "#7"] = ("timeout", None)
    first = sync(service, configured=(app("7"),))
    assert first.day_states[ago(4)].is_failed
    service.errors.clear()
    assert sync(service, first, configured=(app("7"),)).requested == ["0*", "1*", "2*", "3*", "4#7"]


def test_totals_only_requests_no_app() -> None:
    assert sync(Service(SIX_DAYS_BY_APP), totals_only=True, configured=APPS).requested == [f"{n}*" for n in range(9)]


def test_days_whose_totals_arrive_at_once_request_a_new_app_only_once() -> None:
    first = sync(Service(SIX_DAYS_BY_APP))
    run = SimulatedSync(sync_options(configured=(app("7"),), concurrency=8), Service(SIX_DAYS_BY_APP), first)
    assert run.run() is StopReason.DONE
    behaviours = run.stored().unknown_name_behaviours
    stored = replace(first.stored(), unknown_name_behaviours=behaviours)
    state, step = planner.next_windows(planner.start(sync_options(configured=(app("7"),)), stored), 4)
    assert isinstance(step, Request)
    for window in step.windows:
        snapshot = Snapshot(99, window, first.now, Outcome.SUCCESS, values=stored.days[window.day].total_by_hour)
        state = planner.apply_snapshot(state, snapshot, stored.days[window.day])
    requested = planner.next_windows(state, 20)[1]
    assert isinstance(requested, Request)
    assert [label(window) for window in requested.windows] == ["0#7"]


def test_days_that_wait_for_a_new_app_request_it_after_its_window_failed() -> None:
    service = Service(SIX_DAYS_BY_APP)
    first = sync(service)
    service.errors[0, "#7"] = ("timeout", None)
    run = sync(service, first, configured=(app("7"),), concurrency=8)
    assert sorted(run.requested_containing("#7")) == [f"{n}#7" for n in range(6)]
