"""Whole runs of the walk as literals: what was asked, in order. No thread, no clock, no database, no HTTP."""

from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from etl.extract import planner
from etl.extract.planner import NONEXISTENT_MEMBERS, Done, Members, Request, StopReason, StoredState, SyncOptions, Wait
from etl.extract.planner.members import classify, unknown_name_behaviour
from etl.models import (
    DAY,
    HOUR,
    TOTAL,
    ActivePeriod,
    DayState,
    Dimension,
    ErrorScope,
    Measures,
    MemberStatus,
    Outcome,
    Record,
    SeriesKey,
    Snapshot,
    UnknownNameAnswer,
    UnknownNameBehaviour,
    Window,
    app,
    day_start,
    ip,
    queue,
)
from etl.transform.reconcile import DaySnapshots, reconcile

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

Spend = Mapping[int, int]
"""Hour of the day: tasks. A task costs a thousandth of a dollar, unless the service has another price for its queue."""


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def spelled(series: SeriesKey) -> str | None:
    signs = {Dimension.APP: "#", Dimension.IP: "@"}
    return None if series.member is None else signs.get(series.dimension, "") + series.member


STRANGE = {TOTAL: "*", **dict(zip(NONEXISTENT_MEMBERS.values(), ("?", "#?", "@?"), strict=True))}


class Service:
    """Scripted answers: spend by (days ago, queue), totals their sum; ``errors`` by (days ago, queue or None).

    An app is spelled ``#7`` and an address ``@192.0.2.1``; what they spend is part of the queues'.
    """

    def __init__(self, spend: Mapping[tuple[int, str], Spend], unknown: str = "error", stranger: str = "zeros") -> None:
        self.spend = dict(spend)
        self.unknown = unknown
        self.stranger = stranger
        self.errors: dict[tuple[int, str | None], tuple[str, ErrorScope | None]] = {}
        self.prices: dict[str, int] = {}
        self.total_bonus: dict[tuple[int, int], int] = {}
        self.last_hour: dict[tuple[int, str | None], int] = {}

    def names(self) -> set[str]:
        return {name for _, name in self.spend if name[0] not in "#@"}

    def tasks(self, days_ago: int, name: str | None, hour: int) -> int:
        if name is None:
            total = sum(self.tasks(days_ago, one, hour) for one in self.names())
            return total + self.total_bonus.get((days_ago, hour), 0)
        return self.spend.get((days_ago, name), {}).get(hour, 0)

    def money(self, days_ago: int, name: str | None, hour: int) -> Decimal:
        if name is None:
            extra = Decimal(self.total_bonus.get((days_ago, hour), 0)) / 1000
            return extra + sum((self.money(days_ago, one, hour) for one in self.names()), Decimal(0))
        return Decimal(self.tasks(days_ago, name, hour) * self.prices.get(name, 1)) / 1000

    def answer(self, window: Window, number: int, requested_at: datetime) -> Snapshot:
        days_ago, name = (TODAY - window.day).days, spelled(window.series)
        snapshot = Snapshot(number, window, requested_at, Outcome.SUCCESS)
        if (days_ago, name) in self.errors:
            code, effect = self.errors[days_ago, name]
            return replace(
                snapshot, outcome=Outcome.API_ERROR if effect else Outcome.FAILED, code=code, error_scope=effect
            )
        if name is not None and name not in self.names() and name not in {one for _, one in self.spend}:
            answer, code, effect = self.unknown, "ERROR_QUEUE", ErrorScope.WINDOW
            if name[0] in "#@":
                answer, code, effect = self.stranger, "ERROR_ACCESS_DENIED", ErrorScope.SERIES
            if answer == "error":
                return replace(snapshot, outcome=Outcome.API_ERROR, code=code, error_scope=effect)
            name = None if answer == "totals" else name
        first = (window.start - day_start(window.day)) // HOUR
        last = self.last_hour.get((days_ago, name), 23) if first == 0 else 23
        hours = [n for n in range(first, last + 1) if day_start(window.day) + n * HOUR <= requested_at]
        at = day_start(window.day)
        records = (Record(at + n * HOUR, self.tasks(days_ago, name, n), self.money(days_ago, name, n)) for n in hours)
        return replace(snapshot, records=tuple(records))


class Run:
    """Plays a walk against a service, one answer at a time, and keeps what was asked."""

    def __init__(
        self,
        options: SyncOptions,
        service: Service,
        after: "Run | None" = None,
        now: datetime = NOW,
        but: Set[date] = frozenset(),
    ) -> None:
        self.expected_rows: dict[date, DaySnapshots] = {}
        if after is not None:
            self.expected_rows = {
                day: day_snapshots for day, day_snapshots in after.expected_rows.items() if day not in but
            }
            now = max(now, after.now)
        self.now: datetime = now + timedelta(minutes=20)
        self.state = planner.start(options, StoredState() if after is None else after.stored(but))
        self.service = service
        self.asked: list[Window] = []
        self.in_the_air: list[Window] = []
        self.number = sum(len(day_snapshots.snapshots) for day_snapshots in self.expected_rows.values())

    def go(self, pick: Callable[[list[Window]], int] = lambda _: 0) -> StopReason:
        for _ in range(100_000):
            self.state, step = planner.next_windows(self.state, self.state.options.concurrency - len(self.in_the_air))
            if isinstance(step, Done):
                assert not self.in_the_air
                return step.stop_reason
            if isinstance(step, Request):
                self.asked += step.windows
                self.in_the_air += step.windows
                if len(self.in_the_air) < self.state.options.concurrency:
                    continue
            else:
                assert isinstance(step, Wait)
            assert self.in_the_air, "the walk waits for an answer that nobody asked for"
            self.land(self.in_the_air.pop(pick(self.in_the_air)))
        raise AssertionError("the walk does not end")

    def land(self, window: Window) -> None:
        self.number += 1
        self.now += timedelta(milliseconds=1)
        snapshot = self.service.answer(window, self.number, self.now)
        day_snapshots = self.expected_rows.get(window.day, DaySnapshots(window.day))
        self.state = planner.classify_name(self.state, snapshot, reconcile(day_snapshots).day_state)
        day_snapshots = self.expected_rows[window.day] = self.in_the_light(day_snapshots.with_snapshots([snapshot]))
        self.state = planner.apply_snapshot(self.state, snapshot, reconcile(day_snapshots).day_state)
        for day, other in self.expected_rows.items():
            seen = self.in_the_light(other)
            if seen != other:
                self.expected_rows[day] = seen
                self.state = planner.apply_reconciled_day(self.state, reconcile(seen).day_state)

    def in_the_light(self, day_snapshots: DaySnapshots) -> DaySnapshots:
        """The book as it is seen in the light of what is thought of names now."""

        def thought(member_status: MemberStatus) -> set[SeriesKey]:
            return {series for series, stored in self.state.members.member_statuses.items() if stored is member_status}

        ignored = frozenset(thought(MemberStatus.EXCLUDED) | {*NONEXISTENT_MEMBERS.values()})
        names, asked = self.state.members, {snapshot.window.series for snapshot in day_snapshots.snapshots} - {TOTAL}
        stored_facts = thought(MemberStatus.VERIFIED) | thought(MemberStatus.RETIRED)
        unverified = frozenset(series for series in asked - stored_facts if names.needs_verification(series.dimension))
        return replace(
            day_snapshots, ignored=ignored, unverified=unverified, retired=frozenset(thought(MemberStatus.RETIRED))
        )

    @property
    def day_states(self) -> dict[date, DayState]:
        return {day: reconcile(day_snapshots).day_state for day, day_snapshots in self.expected_rows.items()}

    @property
    def said(self) -> list[str]:
        """What was asked, readably: days ago, name or ``*`` for the total, and the hour of a tail; ``?`` cannot
        exist."""
        words = []
        for window in self.asked:
            name = STRANGE.get(window.series, spelled(window.series))
            tail = "" if window.start == day_start(window.day) else f"@{window.start.hour}"
            words.append(f"{(TODAY - window.day).days}{name}{tail}")
        return words

    def stored(self, but: Set[date] = frozenset()) -> StoredState:
        """What a warehouse would hold after this run."""
        options, day_states = (
            self.state.options,
            {day: day_state for day, day_state in self.day_states.items() if day not in but},
        )
        done_series = {day: day_state for day, day_state in day_states.items() if day not in self.state.open_days}
        final = {
            day
            for day, day_state in done_series.items()
            if not day_state.is_failed and day_state.read_since(options.finalizes_at(day))
        }
        return StoredState(
            days=day_states,
            final=frozenset(final),
            active_periods=self.state.members.active_periods,
            member_statuses=self.state.members.member_statuses,
            unknown_name_behaviours=self.state.members.unknown_name_behaviours,
        )


def options(**others: object) -> SyncOptions:
    plain = SyncOptions("default", TODAY, empty_days=3, known_queues=("A", "B", "C"), concurrency=1)
    return replace(plain, **others)  # type: ignore[arg-type]  # a test's own words


def play(
    service: Service, after: Run | None = None, now: datetime = NOW, but: Set[date] = frozenset(), **others: object
) -> Run:
    run = Run(options(**others), service, after, now, but)
    assert run.go() is StopReason.DONE
    return run


BUSY = {(n, "A"): {8: 10, 9: 5} for n in range(6)}


# ---------------------------------------------------------------- the first run


def test_the_first_request_is_a_total_the_second_a_queue_that_cannot_exist() -> None:
    assert play(Service(BUSY)).said[:2] == ["0*", "0?"]


def test_the_first_two_requests_go_alone_however_many_may_go_at_once() -> None:
    run = Run(options(concurrency=8), Service(BUSY))
    run.state, step = planner.next_windows(run.state, 8)
    assert isinstance(step, Request)
    assert len(step.windows) == 1
    assert isinstance(planner.next_windows(run.state, 7)[1], Wait)
    run.land(step.windows[0])
    run.state, step = planner.next_windows(run.state, 8)
    assert isinstance(step, Request)
    assert [window.series.member for window in step.windows] == [NONEXISTENT_MEMBERS[Dimension.QUEUE].member]
    assert isinstance(planner.next_windows(run.state, 7)[1], Wait)


def test_a_whole_first_run_of_one_queue_asks_each_total_and_each_active_pair_once() -> None:
    # Today waits for what yesterday's hunt finds; three days without spend end the history.
    assert play(Service(BUSY)).said == [
        "0*", "0?", "1*", "1A", "0A", "2*", "2A", "3*", "3A", "4*", "4A", "5*", "5A", "6*", "7*", "8*",
    ]  # fmt: skip


def test_a_queue_that_begins_further_back_is_hunted_for_once_and_likely_from_then_on() -> None:
    spend = BUSY | {(n, "C"): {4: 1} for n in range(3, 6)}
    assert play(Service(spend, unknown="zeros")).said == [
        "0*", "0?", "1*", "1A", "0A", "2*", "2A", "3*", "3A", "3B", "3C", "4*", "4A", "4C", "5*", "5A", "5C", "6*", "7*", "8*",
    ]  # fmt: skip


def test_the_users_names_are_hunted_before_the_catalogue() -> None:
    spend = {(n, "Mine"): {8: 10} for n in range(2)}
    assert play(Service(spend, unknown="zeros"), configured=(queue("Mine"),)).said[:5] == [
        "0*",
        "0?",
        "1*",
        "1Mine",
        "0Mine",
    ]


def test_a_day_without_spend_costs_one_request() -> None:
    run = play(Service({(0, "A"): {8: 1}}))
    assert [said for said in run.said if not said.startswith("0")] == ["1*", "2*", "3*"]


def test_totals_only_asks_no_queue_and_no_name_that_cannot_exist() -> None:
    assert play(Service(BUSY), totals_only=True).said == [f"{n}*" for n in range(9)]


# ---------------------------------------------------------------- the start of history


def test_an_idle_day_asked_for_far_before_the_history_makes_no_gap_of_the_years_between() -> None:
    first = play(Service(BUSY))
    stray = play(Service(BUSY), first, until=ago(2000))
    assert stray.said == ["2000*"]
    assert play(Service(BUSY), stray).said == ["0*", "1*", "2*", "3*"]


def test_history_begins_empty_days_before_the_oldest_spend() -> None:
    run = play(Service(BUSY | {(8, "A"): {1: 1}}))
    assert max((TODAY - window.day).days for window in run.asked) == 11


def test_an_idle_stretch_as_long_as_empty_days_ends_the_history() -> None:
    run = play(Service(BUSY | {(9, "A"): {1: 1}}))
    assert max((TODAY - window.day).days for window in run.asked) == 8


def test_since_wins_over_empty_days_in_both_directions() -> None:
    assert play(Service(BUSY), since=ago(2)).said[-2:] == ["2*", "2A"]
    assert play(Service({(0, "A"): {1: 1}}), since=ago(7)).said[-1] == "7*"


def test_until_bounds_the_newest_day() -> None:
    assert play(Service(BUSY), until=ago(4)).said == ["4*", "4?", "4A", "5*", "5A", "6*", "7*", "8*"]


def test_without_any_spend_the_search_ends_at_ten_times_empty_days() -> None:
    run = play(Service({}))
    assert run.said == [f"{n}*" for n in range(30)]
    assert run.state.found_no_spend


def test_a_failed_day_is_not_an_empty_day() -> None:
    service = Service(BUSY)
    service.errors[7, None] = ("timeout", None)
    assert max((TODAY - window.day).days for window in play(service).asked) == 10


def test_no_day_is_asked_beyond_the_start_of_history_however_many_go_at_once() -> None:
    run = play(Service(BUSY), concurrency=8)
    assert max((TODAY - window.day).days for window in run.asked) == 8


# ---------------------------------------------------------------- a later run


def test_a_second_run_asks_the_totals_of_today_and_the_lookback_and_nothing_else() -> None:
    first = play(Service(BUSY))
    assert play(Service(BUSY), first).said == ["0*", "1*", "2*", "3*"]


def test_a_changed_total_of_the_lookback_has_its_queues_asked_again() -> None:
    first = play(Service(BUSY))
    assert play(Service(BUSY | {(2, "A"): {8: 11, 9: 5}}), first).said == ["0*", "1*", "2*", "2A", "3*"]


def test_the_reading_that_makes_a_day_final_asks_its_queues_again() -> None:
    first = play(Service(BUSY))
    tomorrow = NOW + DAY
    service = Service(BUSY)
    run = play(service, first, now=tomorrow, today=TODAY + DAY)
    assert run.said == ["-1*", "0*", "1*", "2*", "3*", "3A"]


def test_a_gap_is_asked_and_what_is_held_around_it_is_not() -> None:
    run = play(Service(BUSY), play(Service(BUSY)), but={ago(5)})
    assert run.said == ["0*", "1*", "2*", "3*", "5*", "5A"]


def test_a_day_with_a_rest_is_asked_for_new_names_only() -> None:
    spend = BUSY | {(4, "New"): {3: 7}}
    first = play(Service(spend, unknown="zeros"))
    assert not first.day_states[ago(4)].is_explained
    assert play(Service(spend, unknown="zeros"), first).said == ["0*", "1*", "2*", "3*"]
    assert play(Service(spend, unknown="zeros"), first, configured=(queue("New"),)).said == [
        "0*",
        "1*",
        "2*",
        "3*",
        "4New",
    ]


def test_a_crash_between_total_and_queue_repeats_neither() -> None:
    first = Run(options(), Service(BUSY))
    while first.said[-1:] != ["5A"]:  # asked, but its answer never landed
        first.state, step = planner.next_windows(first.state, 1)
        if isinstance(step, Request):
            first.asked += step.windows
            if first.said[-1] != "5A":
                first.land(step.windows[0])
    again = play(Service(BUSY), first)
    assert again.said == ["0*", "1*", "2*", "3*", "5A", "6*", "7*", "8*"]


# ---------------------------------------------------------------- names


def test_a_name_that_gives_the_unknown_error_is_set_aside_and_never_asked_again() -> None:
    spend = {(n, "B"): {8: 1} for n in range(4)}
    run = play(Service(spend))
    assert run.said.count("1A") == 1
    assert run.state.members.member_statuses[queue("A")] is MemberStatus.EXCLUDED
    assert not [said for said in run.said if said.endswith("A") and said != "1A"]
    assert not [said for said in play(Service(spend), run).said if said.endswith("A")]


def test_names_already_used_up_are_not_hunted_again_on_the_same_day() -> None:
    spend = {(1, "Nowhere"): {8: 1}}
    run = play(Service(spend, unknown="zeros"), known_queues=("A", "B"))
    assert [said for said in run.said if said.startswith("1")] == ["1*", "1?", "1A", "1B"]


def test_where_unknown_names_give_totals_a_name_that_repeats_the_total_is_doubted() -> None:
    run = play(Service(BUSY, unknown="totals"), configured=(queue("Typo"),), known_queues=())
    assert run.state.members.unknown_name_behaviours[Dimension.QUEUE].answer is UnknownNameAnswer.TOTALS
    assert run.state.members.member_statuses[queue("Typo")] is MemberStatus.UNVERIFIED
    assert all(not day_state.is_explained for day_state in run.day_states.values() if day_state.has_spend)


def test_where_unknown_names_give_totals_one_different_answer_makes_a_name_believed() -> None:
    spend = {(n, name): {8: 1} for n in range(3) for name in ("A", "B")}
    run = play(Service(spend, unknown="totals"), known_queues=("A", "B"))
    assert {run.state.members.member_statuses[queue("A")], run.state.members.member_statuses[queue("B")]} == {
        MemberStatus.VERIFIED
    }


def test_a_name_is_not_believed_for_differing_from_a_total_that_is_old() -> None:
    spend = {(n, name): {8: 1} for n in range(3) for name in ("A", "B")}
    first = play(Service(spend, unknown="totals"), known_queues=(), totals_only=True)
    state = planner.start(
        options(),
        replace(
            first.stored(), unknown_name_behaviours={Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.TOTALS)}
        ),
    )
    stale = Snapshot(99, Window.whole_day("default", queue("A"), ago(2)), NOW + HOUR, Outcome.SUCCESS)
    assert (
        planner.classify_name(state, stale, first.day_states[ago(2)]).members.member_statuses[queue("A")]
        is MemberStatus.UNVERIFIED
    )
    fresh = replace(stale, requested_at=NOW + timedelta(seconds=30))
    assert (
        planner.classify_name(state, fresh, first.day_states[ago(2)]).members.member_statuses[queue("A")]
        is MemberStatus.VERIFIED
    )


def test_a_name_the_user_vouches_for_is_believed_at_once() -> None:
    run = play(Service(BUSY, unknown="totals"), trusted=(queue("A"),), known_queues=())
    assert run.day_states[ago(1)].is_explained


def test_on_the_running_day_no_name_is_hunted() -> None:
    run = play(Service({(0, "B"): {3: 1}}, unknown="zeros"), empty_days=1)
    assert [said for said in run.said if said.startswith("0")] == ["0*", "0?"]


def test_a_hunt_begins_with_the_queue_whose_known_price_is_nearest_to_the_rests() -> None:
    names = ("A", "B", "C", "D")
    spend = {(1, name): {8: 10} for name in names} | {(n, "D"): {8: 10} for n in range(20, 23)}
    service = Service(spend, unknown="zeros")
    service.prices = {"A": 1, "B": 2, "C": 3, "D": 4}
    run = play(service, known_queues=names, empty_days=30)
    assert [said for said in run.said if said.startswith("20")] == ["20*", "20D"]


def test_no_two_days_hunt_at_once() -> None:
    spend = {(n, "C"): {8: 1} for n in range(1, 9)}
    run = play(Service(spend, unknown="zeros"), concurrency=4)
    hunted = [said for said in run.said if said.endswith(("A", "B"))]
    assert hunted == ["1A", "1B"]


# ---------------------------------------------------------------- apps and addresses


APPS = (app("7"), app("8"))
BY_APP = BUSY | {(n, "#7"): {8: 4} for n in range(6)}


def of(run: Run, sign: str) -> list[str]:
    """What was asked of apps (``#``) or addresses (``@``)."""
    return [said for said in run.said if sign in said]


def test_an_app_is_asked_on_every_day_with_spend_after_one_that_cannot_exist() -> None:
    run = play(Service(BY_APP), configured=(app("7"),))
    assert run.said[:3] == ["0*", "0?", "0#?"]
    assert of(run, "#") == ["0#?", "0#7", "1#7", "2#7", "3#7", "4#7", "5#7"]


def test_no_app_and_no_address_is_asked_that_the_user_did_not_list() -> None:
    first = play(Service(BY_APP), configured=(app("7"),))
    again = play(Service(BY_APP), first, but={ago(5)})
    assert of(again, "#") == []
    assert "5A" in again.said


def test_a_history_held_owes_an_app_that_is_listed_later_and_nothing_else() -> None:
    first = play(Service(BY_APP))
    run = play(Service(BY_APP), first, configured=(app("7"),))
    assert run.said == ["0*", "0#?", "0#7", "1*", "1#7", "2*", "2#7", "3*", "3#7", "4#7", "5#7"]
    assert play(Service(BY_APP), run, configured=(app("7"),)).said == ["0*", "1*", "2*", "3*"]


def test_apps_that_explain_a_day_spare_the_others() -> None:
    spend = BUSY | {(n, "#7"): {8: 10, 9: 5} for n in range(6)}
    run = play(Service(spend), configured=APPS)
    assert of(run, "#8") == []
    assert all(
        day_state.breakdown(Dimension.APP).is_explained for day_state in run.day_states.values() if day_state.has_spend
    )


def test_every_cut_is_asked_by_itself() -> None:
    run = play(Service(BY_APP | {(1, "@192.0.2.1"): {9: 1}}), configured=(app("7"), ip("192.0.2.1")), since=ago(1))
    assert sorted(run.said) == sorted(
        ["0*", "0?", "0#?", "0@?", "0#7", "0@192.0.2.1", "1*", "1#7", "1@192.0.2.1", "1A", "0A"]
    )


def test_a_changed_total_has_the_days_apps_asked_again_by_a_run_that_does_not_list_them() -> None:
    first = play(Service(BY_APP), configured=APPS)
    run = play(Service(BY_APP | {(2, "A"): {8: 11, 9: 5}}), first)
    assert run.said == ["0*", "1*", "2*", "2A", "2#7", "3*"]


def test_an_app_is_read_again_when_its_day_becomes_final() -> None:
    first = play(Service(BY_APP), configured=(app("7"),))
    run = play(Service(BY_APP), first, now=NOW + DAY, today=TODAY + DAY)
    assert run.said == ["-1*", "0*", "1*", "2*", "3*", "3A", "3#7"]
    assert run.day_states[ago(3)].read_since(run.state.options.finalizes_at(ago(3)))


def test_a_refused_app_ends_alone() -> None:
    service = Service(BY_APP, stranger="error")
    run = play(service, configured=APPS)
    assert run.state.members.member_statuses[app("8")] is MemberStatus.EXCLUDED
    assert len(of(run, "#8")) == 1
    assert of(run, "#7") == [f"{n}#7" for n in range(6)]
    assert not any(day_state.is_failed for day_state in run.day_states.values())
    assert of(play(service, run, configured=APPS, but={ago(5)}), "#8") == []


def test_an_app_refused_later_keeps_what_is_held_of_it_and_fails_nothing() -> None:
    service = Service(BY_APP)
    first = play(service, configured=(app("7"),))
    service.spend[0, "A"] = {8: 11, 9: 5}
    service.errors = {(n, "#7"): ("ERROR_ACCESS_DENIED", ErrorScope.SERIES) for n in range(9)}
    run = play(service, first, configured=(app("7"),))
    assert run.state.members.member_statuses[app("7")] is MemberStatus.RETIRED
    assert run.said == ["0*", "0A", "0#7", "1*", "2*", "3*"]
    assert not any(day_state.is_failed for day_state in run.day_states.values())
    assert reconcile(run.expected_rows[ago(0)]).facts[app("7"), day_start(TODAY) + 8 * HOUR].volume == 4


def test_an_app_that_only_ever_repeats_the_total_is_doubted_where_strangers_do() -> None:
    run = play(Service(BY_APP, stranger="totals"), configured=APPS)
    member_statuses = run.state.members.member_statuses
    assert (member_statuses[app("7")], member_statuses[app("8")]) == (MemberStatus.VERIFIED, MemberStatus.UNVERIFIED)
    assert all(app("8") not in day_state.active_members for day_state in run.day_states.values())


def test_apps_beyond_the_total_are_asked_once_more_with_it_and_leave_the_queues_alone() -> None:
    service = Service(BUSY | {(4, "#7"): {8: 11}})
    run = play(service, configured=(app("7"),))
    assert [said for said in run.said if said.startswith("4")] == ["4*", "4A", "4#7", "4*", "4#7"]
    assert run.day_states[ago(4)].over_allocated_dimensions == {Dimension.APP}
    assert run.day_states[ago(4)].is_explained


def test_a_closed_day_whose_members_exceed_its_total_is_looked_at_by_every_run() -> None:
    service = Service(BUSY)
    service.total_bonus[5, 8] = -3
    first = play(service)
    service.total_bonus.clear()
    run = play(service, first)
    assert run.said == ["0*", "1*", "2*", "3*", "5*", "5A"]
    assert not run.day_states[ago(5)].over_allocated_dimensions


def test_a_failed_app_window_fails_its_day_and_is_asked_by_the_next_run() -> None:
    service = Service(BY_APP)
    service.errors[4, "#7"] = ("timeout", None)
    first = play(service, configured=(app("7"),))
    assert first.day_states[ago(4)].is_failed
    service.errors.clear()
    assert play(service, first, configured=(app("7"),)).said == ["0*", "1*", "2*", "3*", "4#7"]


def test_totals_only_asks_no_app_either() -> None:
    assert play(Service(BY_APP), totals_only=True, configured=APPS).said == [f"{n}*" for n in range(9)]


# ---------------------------------------------------------------- hours owed


def test_a_short_total_has_its_last_hour_asked_and_its_queues_only_when_that_holds_money() -> None:
    service = Service({(n, "A"): {8: 10} for n in range(3)} | {(1, "A"): {8: 10, 23: 2}})
    for n in range(12):
        service.last_hour |= {(n, None): 22, (n, "A"): 22}
    run = play(service)
    assert [said for said in run.said if said.startswith("1") and len(said) < 6] == ["1*", "1*@23", "1A", "1A@23"]
    assert [said for said in run.said if said.startswith("2")] == ["2*", "2*@23", "2A"]


def test_an_hour_asked_once_is_not_asked_again_by_the_next_run() -> None:
    service = Service({(n, "A"): {8: 10} for n in range(6)})
    service.last_hour = {(5, None): 22}
    first = play(service)
    assert "5*@23" in first.said
    assert play(service, first).said == ["0*", "1*", "2*", "3*"]


class Sparse(Service):
    """Idle hours are left out, and an answer may end before the day does."""

    def answer(self, window: Window, number: int, requested_at: datetime) -> Snapshot:
        snapshot = super().answer(window, number, requested_at)
        return replace(snapshot, records=tuple(record for record in snapshot.records if record.volume))


def test_where_23_records_may_be_all_that_comes_an_empty_day_has_its_last_hour_asked_too() -> None:
    service = Sparse({(1, "A"): {8: 10}, (2, "A"): {23: 5}})
    service.last_hour |= {(2, None): 22, (2, "A"): 22}
    run = play(service)
    assert [said for said in run.said if said.startswith(("2", "3"))] == ["2*", "2*@23", "2A", "2A@23", "3*", "3*@23"]
    assert run.day_states[ago(2)].total.volume == 5
    assert run.day_states[ago(2)].is_explained


# ---------------------------------------------------------------- waiting


def test_a_day_that_waited_goes_on_when_the_one_it_waited_for_needs_no_request() -> None:
    spend = {(n, "A"): {8: 10} for n in range(6)} | {(0, "B"): {3: 1}}
    first = play(Service(spend, unknown="zeros"))
    assert play(Service(spend, unknown="zeros"), first, lookback=0).said == ["0*", "0A"]


def test_final_days_that_only_lack_an_app_learn_first_what_a_stranger_gives() -> None:
    first = play(Service(BUSY), until=ago(4))
    assert play(Service(BUSY), first, until=ago(4), configured=(app("7"),)).said == ["4#?", "4#7", "5#7"]


# ---------------------------------------------------------------- what a stranger gives


def test_zeros_where_the_total_has_none_either_teach_nothing() -> None:
    window = Window.whole_day("default", NONEXISTENT_MEMBERS[Dimension.QUEUE], ago(1))
    idle = tuple(Record(day_start(ago(1)) + n * HOUR, 0, Decimal(0)) for n in range(23))
    answer = Snapshot(2, window, NOW, Outcome.SUCCESS, idle)
    late = {day_start(ago(1)) + 23 * HOUR: Measures(5, Decimal(1))}
    assert unknown_name_behaviour(answer, DayState(ago(1), total_by_hour=late)) is None
    early = {day_start(ago(1)) + 3 * HOUR: Measures(5, Decimal(1))}
    assert unknown_name_behaviour(answer, DayState(ago(1), total_by_hour=early)) == UnknownNameBehaviour(
        UnknownNameAnswer.ZEROS
    )
    refund = {day_start(ago(1)) + 3 * HOUR: Measures(0, Decimal(-1))}
    assert unknown_name_behaviour(answer, DayState(ago(1), total_by_hour=refund)) is None


def temporary_beside(said: Spend, total: Spend, later: timedelta = timedelta(minutes=1)) -> MemberStatus | None:
    """What is thought of a name that gave ``said`` on a closed day with that total, where strangers give totals."""
    at = day_start(ago(1))
    names = Members(unknown_name_behaviours={Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.TOTALS)})
    hours = {at + n * HOUR: Measures(tasks, Decimal(tasks)) for n, tasks in total.items()}
    day_state = DayState(ago(1), is_closed=True, total_requested_at=NOW, total_by_hour=hours)
    records = tuple(Record(at + n * HOUR, tasks, Decimal(tasks)) for n, tasks in said.items())
    window = Window.whole_day("default", queue("A"), ago(1))
    return classify(names, Snapshot(2, window, NOW + later, Outcome.SUCCESS, records), day_state).member_statuses[
        queue("A")
    ]


def test_a_part_of_the_total_proves_a_name_and_what_exceeds_it_does_not() -> None:
    assert temporary_beside({3: 4, 4: 1}, {3: 5, 4: 1}) is MemberStatus.VERIFIED
    assert temporary_beside({3: 5, 4: 1}, {3: 5, 4: 1}) is MemberStatus.UNVERIFIED
    assert temporary_beside({3: 6, 4: 0}, {3: 5, 4: 1}) is MemberStatus.UNVERIFIED


def test_an_empty_answer_proves_a_name_on_the_totals_own_day_alone() -> None:
    assert temporary_beside({}, {3: 5}) is MemberStatus.VERIFIED
    assert temporary_beside({}, {3: 5}, later=timedelta(hours=20)) is MemberStatus.UNVERIFIED


# ---------------------------------------------------------------- contradictions


def test_queues_that_exceed_the_total_are_asked_once_more_and_then_left() -> None:
    service = Service(BUSY)
    service.total_bonus[4, 8] = -3
    run = play(service)
    assert [said for said in run.said if said.startswith("4")] == ["4*", "4A", "4*", "4A"]
    assert run.day_states[ago(4)].over_allocated_dimensions


# ---------------------------------------------------------------- trouble


def test_a_fatal_refusal_stops_every_other_request() -> None:
    service = Service(BUSY)
    service.errors[0, None] = ("ERROR_KEY_DOES_NOT_EXIST", ErrorScope.ACCOUNT)
    run = Run(options(concurrency=8), service)
    assert run.go() is StopReason.ACCOUNT_REJECTED
    assert run.said == ["0*"]
    assert run.state.stopped_by is not None


def test_a_fatal_refusal_in_the_middle_lets_nothing_new_begin() -> None:
    service = Service(BUSY)
    service.errors[3, None] = ("ERROR_IP_BLOCKED", ErrorScope.ACCOUNT)
    run = Run(options(concurrency=4), service)
    assert run.go() is StopReason.ACCOUNT_REJECTED
    assert "8*" not in run.said


@pytest.mark.parametrize("effect", [ErrorScope.WINDOW, None])
def test_the_same_trouble_on_five_windows_in_a_row_stops_the_account(effect: ErrorScope | None) -> None:
    service = Service(BUSY)
    for n in range(2, 20):
        service.errors[n, None] = ("http_502", effect)
    run = Run(options(), service)
    assert run.go() is StopReason.TOO_MANY_FAILURES
    assert run.said[-5:] == ["2*", "3*", "4*", "5*", "6*"]


def test_too_many_failures_in_a_row_stop_the_account_whatever_their_codes() -> None:
    service = Service({(0, "A"): {8: 1}})
    for n in range(1, 200):
        service.errors[n, None] = (f"trouble {n % 3}", None)
    run = Run(options(), service)
    assert run.go() is StopReason.TOO_MANY_FAILURES
    assert run.said[-1] == f"{planner.MAX_FAILURES}*"


def test_the_search_for_the_start_of_history_has_a_floor() -> None:
    last = planner.EARLIEST_DAY + timedelta(days=3)
    state = planner.start(options(until=last, empty_days=1000), StoredState())
    assert planner.estimate(state).days == 4


def test_one_failed_window_leaves_the_others_and_is_asked_by_the_next_run() -> None:
    service = Service(BUSY)
    service.errors[4, "A"] = ("timeout", None)
    first = play(service)
    assert first.day_states[ago(4)].is_failed
    service.errors.clear()
    assert play(service, first).said == ["0*", "1*", "2*", "3*", "4A"]


def test_max_requests_stops_with_work_left_and_the_next_run_goes_on() -> None:
    first = Run(options(max_requests=6), Service(BUSY))
    assert first.go() is StopReason.LIMIT
    assert len(first.asked) == 6
    again = play(Service(BUSY), first)
    assert [said for said in again.said if said in first.said] == ["0*", "1*", "2*"]


def test_max_requests_of_just_enough_is_not_a_limit_reached() -> None:
    enough = len(play(Service(BUSY)).asked)
    assert Run(options(max_requests=enough), Service(BUSY)).go() is StopReason.DONE


def test_a_believed_queue_that_gives_the_unknown_error_has_failed_and_is_not_set_aside() -> None:
    service = Service(BUSY | {(n, "B"): {3: 1} for n in range(6)})
    first = play(service)
    assert first.state.members.unknown_name_behaviours[Dimension.QUEUE].code == "ERROR_QUEUE"
    service.errors[1, "A"] = ("ERROR_QUEUE", ErrorScope.WINDOW)
    service.total_bonus[1, 8] = 1
    again = play(service, first)
    assert again.state.members.member_statuses[queue("A")] is MemberStatus.VERIFIED
    assert again.day_states[ago(1)].is_failed


def test_trouble_of_the_moment_teaches_nothing_about_unknown_names() -> None:
    service = Service(BUSY)
    service.errors[0, NONEXISTENT_MEMBERS[Dimension.QUEUE].member] = ("ERROR_NO_SLOT_AVAILABLE", ErrorScope.TRANSIENT)
    run = play(service)
    assert Dimension.QUEUE not in run.state.members.unknown_name_behaviours
    assert run.said == ["0*", "0?", *(f"{n}*" for n in range(1, 9))]
    service.errors.clear()
    assert "0?" in play(service, run).said


def test_totals_that_are_partly_refused_stop_the_account_like_any_failure() -> None:
    class Spoiled(Service):
        def answer(self, window: Window, number: int, requested_at: datetime) -> Snapshot:
            return replace(
                super().answer(window, number, requested_at), outcome=Outcome.PARTIAL, code="rejected_records"
            )

    run = Run(options(), Spoiled(BUSY))
    assert run.go() is StopReason.TOO_MANY_FAILURES
    assert len(run.asked) == planner.MAX_SAME_FAILURES
    bounded = Run(options(since=ago(2)), Spoiled(BUSY))
    assert bounded.go() is StopReason.DONE


def test_an_empty_answer_where_spend_is_held_is_asked_once_more() -> None:
    service = Service(BUSY)
    first = play(service)

    class Emptied(Service):
        def answer(self, window: Window, number: int, requested_at: datetime) -> Snapshot:
            snapshot = super().answer(window, number, requested_at)
            return replace(snapshot, records=()) if window.day == ago(2) else snapshot

    run = play(Emptied(BUSY), first)
    assert [said for said in run.said if said.startswith("2")] == ["2*", "2*", "2A", "2A"]
    assert not run.day_states[ago(2)].has_spend
    assert not run.day_states[ago(2)].over_allocated_dimensions


def test_a_total_that_falls_to_zero_has_its_queues_asked_again_beside_it() -> None:
    first = play(Service(BUSY))
    run = play(Service({(n, "A"): {8: 0 if n == 2 else 10, 9: 0 if n == 2 else 5} for n in range(6)}), first)
    assert run.said == ["0*", "1*", "2*", "2A", "3*"]
    assert not run.day_states[ago(2)].over_allocated_dimensions


def test_a_tail_that_changed_since_has_its_queues_asked_again() -> None:
    spend = {(n, "A"): {8: 10, 22: 4} for n in range(6)}
    first = play(Service(spend))
    service = Service(spend | {(1, "A"): {8: 10, 22: 6}})
    service.last_hour[1, None] = 20
    assert [said for said in play(service, first).said if said.startswith("1")] == ["1*", "1*@22", "1A"]


def test_a_partly_refused_answer_proves_no_name_where_unknown_names_give_totals() -> None:
    class Spoiled(Service):
        def answer(self, window: Window, number: int, requested_at: datetime) -> Snapshot:
            snapshot = super().answer(window, number, requested_at)
            is_typo = window.series == queue("Typo")
            return replace(snapshot, outcome=Outcome.PARTIAL, code="rejected_records") if is_typo else snapshot

    run = play(Spoiled(BUSY, unknown="totals"), configured=(queue("Typo"),), known_queues=())
    assert not any(queue("Typo") in day_state.active_members for day_state in run.day_states.values())


def test_after_a_fruitless_hunt_days_still_wait_for_the_queue_that_is_likely() -> None:
    names = tuple("ABCDEFGH")
    spend = {(n, "B"): {8: 10} for n in range(1, 12)} | {(1, "Unlisted"): {9: 1}}
    run = play(Service(spend, unknown="zeros"), known_queues=names, concurrency=4)
    assert len(run.asked) == 1 + 11 + 3 + 1 + len(names) + 10
    assert [said for said in run.said if said.startswith(("5", "6"))] == ["5*", "6*", "5B", "6B"]


def test_a_limit_of_just_enough_is_none_though_the_running_day_waited_for_the_day_before() -> None:
    service = Service({(0, "Unlisted"): {8: 1}}, unknown="zeros")
    enough = len(play(service, since=ago(1)).asked)
    assert Run(options(since=ago(1), max_requests=enough), service).go() is StopReason.DONE


def test_a_run_that_was_stopped_says_how_many_days_are_left_at_least() -> None:
    service = Service(BUSY)
    service.errors[3, None] = ("ERROR_IP_BLOCKED", ErrorScope.ACCOUNT)
    run = Run(options(concurrency=4), service)
    assert run.go() is StopReason.ACCOUNT_REJECTED
    assert run.state.days_left > 0
    assert play(Service(BUSY)).state.days_left == 0


def test_a_day_with_a_rest_is_weighed_against_a_fresh_total_where_unknown_names_give_totals() -> None:
    spend = BUSY | {(4, "New"): {3: 7}}
    first = play(Service(spend, unknown="totals"), known_queues=("A", "B"))
    run = play(Service(spend, unknown="totals"), first, configured=(queue("New"),), known_queues=("A", "B"))
    assert [said for said in run.said if said.startswith("4")][:1] == ["4*"]
    assert run.state.members.member_statuses[queue("New")] is MemberStatus.VERIFIED


def test_the_first_fatal_refusal_is_the_one_reported() -> None:
    service = Service(BUSY)
    service.errors[3, None] = ("ERROR_IP_BLOCKED", ErrorScope.ACCOUNT)
    service.errors[4, None] = ("ERROR_KEY_DOES_NOT_EXIST", ErrorScope.ACCOUNT)
    run = Run(options(concurrency=4), service)
    assert run.go() is StopReason.ACCOUNT_REJECTED
    assert run.state.stopped_by is not None
    assert run.state.stopped_by.code == "ERROR_IP_BLOCKED"


def test_days_that_need_no_request_are_shut_all_the_same() -> None:
    first = play(Service(BUSY))
    state, step = planner.next_windows(
        planner.start(options(until=ago(4)), replace(first.stored(), final=frozenset())), capacity=1
    )
    assert step == Done(StopReason.DONE)
    assert state.completed_days == (ago(4), ago(5), ago(6), ago(7), ago(8))


# ---------------------------------------------------------------- forecast


def test_the_forecast_of_a_known_history_bounds_what_the_run_asks() -> None:
    first = play(Service(BUSY))
    expected = planner.estimate(planner.start(options(), first.stored()))
    asked = len(play(Service(BUSY), first).asked)
    assert expected.at_most is not None
    assert expected.at_least <= asked <= expected.at_most
    assert (expected.days, expected.at_least) == (4, 4)


def test_the_forecast_of_an_unknown_history_has_no_upper_bound_unless_since_gives_one() -> None:
    assert planner.estimate(planner.start(options(), StoredState())).at_most is None
    expected = planner.estimate(planner.start(options(since=ago(9)), StoredState()))
    assert (expected.days, expected.at_least, expected.at_most) == (10, 10, 10 * 4 + 1)


# ---------------------------------------------------------------- spells


def test_a_spell_grows_over_a_weekend_and_not_over_a_month() -> None:
    monday = date(2026, 11, 2)
    active_periods = planner.extend_periods((), monday)
    active_periods = planner.extend_periods(active_periods, monday - timedelta(days=3))
    assert active_periods == (ActivePeriod(monday - timedelta(days=3), monday),)
    assert len(planner.extend_periods(active_periods, monday - timedelta(days=40))) == 2


def test_a_day_between_two_spells_joins_them() -> None:
    early, late = ActivePeriod(ago(20), ago(14)), ActivePeriod(ago(2), ago(0))
    assert planner.extend_periods((early, late), ago(8)) == (ActivePeriod(ago(20), ago(0)),)


def test_the_answer_of_a_stranger_day_changes_nothing() -> None:
    state = planner.start(options(), StoredState())
    window = Window.whole_day("default", TOTAL, ago(3))
    apply_response = planner.apply_snapshot(state, Snapshot(1, window, NOW, Outcome.SUCCESS), DayState(ago(3)))
    assert apply_response.open_days == {}


def test_a_day_is_asked_for_the_hours_it_owes_once_a_later_day_has_proved_its_queue() -> None:
    # B's 23 hours are the total's on the first of the days, as those of a name that is not known would be; the
    # second proves it.
    service = Service({(5, "B"): {8: 10, 23: 2}, (6, "A"): {8: 10}, (6, "B"): {9: 3}}, unknown="totals")
    service.last_hour[5, "B"] = 22
    first = play(service, known_queues=("B", "A"))
    assert [said for said in first.said if said.startswith(("5", "6"))] == [
        "5*",
        "5?",
        "5B",
        "5A",
        "6*",
        "6B",
        "5B@23",
        "6A",
    ]
    assert first.day_states[ago(5)].is_explained
    assert [said for said in play(service, first, known_queues=("B", "A")).said if said.startswith(("5", "6"))] == []


def test_a_day_that_owes_an_hour_of_a_queue_is_visited_by_the_next_run() -> None:
    service = Service({(5, "B"): {8: 10, 23: 2}, (6, "A"): {8: 10}, (6, "B"): {9: 3}}, unknown="totals")
    service.last_hour[5, "B"] = 22
    whole = play(service, known_queues=("B", "A"))
    cut_short = Run(options(known_queues=("B", "A"), max_requests=whole.said.index("5B@23")), service)
    assert cut_short.go() is StopReason.LIMIT
    again = play(service, cut_short, known_queues=("B", "A"))
    assert "5B@23" in again.said
    assert again.day_states[ago(5)].is_explained


def test_answers_of_one_moment_are_told_a_day_at_once_in_their_order_and_a_total_by_itself() -> None:
    asked = [(2, "A"), (1, "A"), (2, None), (2, "B"), (1, "B"), (2, "C"), (1, None)]
    windows = [Window.whole_day("default", queue(name) if name else TOTAL, ago(days)) for days, name in asked]
    snapshots = [Snapshot(number, window, NOW, Outcome.SUCCESS) for number, window in enumerate(windows, start=1)]
    assert [[snapshot.number for snapshot in group] for group in planner.group_by_day(snapshots)] == [
        [1],
        [3],
        [4, 6],
        [2, 5],
        [7],
    ]
