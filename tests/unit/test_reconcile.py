"""Readings of a day in, facts, rest and revisions out: as literals, and as what must hold of any readings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from etl.models import (
    HOUR,
    TOTAL,
    ZERO_MEASURES,
    ChangeReason,
    DayState,
    Dimension,
    Fact,
    Measures,
    Outcome,
    Record,
    Rejection,
    SeriesKey,
    Snapshot,
    Window,
    app,
    day_start,
    ip,
    queue,
)
from etl.transform.reconcile import DaySnapshots, ReconciledDay, diff, empty_day, reconcile

DAY = date(2026, 11, 2)
REST = SeriesKey(Dimension.QUEUE, None)
NEXT_NIGHT = datetime(2026, 11, 3, 2, tzinfo=UTC)

Interpretation = Mapping[int, tuple[int, str]]
"""Hour of the day: tasks and dollars."""


def hour(n: int) -> datetime:
    return day_start(DAY) + n * HOUR


def snapshot(
    number: int, series: SeriesKey, said: Interpretation, requested_at: datetime = NEXT_NIGHT, start: int = 0
) -> Snapshot:
    window = replace(Window.whole_day("default", series, DAY), start=hour(start))
    records = tuple(Record(hour(n), volume, Decimal(money)) for n, (volume, money) in sorted(said.items()))
    return Snapshot(number, window, requested_at + timedelta(seconds=number), Outcome.SUCCESS, records)


def whole(said: Interpretation) -> Interpretation:
    """A day's 24 records, idle hours as zeros."""
    return {n: said.get(n, (0, "0")) for n in range(24)}


def reconciled(*snapshots: Snapshot, unverified: Sequence[str] = (), ignored: Sequence[str] = ()) -> ReconciledDay:
    return reconcile(
        DaySnapshots(
            DAY,
            snapshots=snapshots,
            unverified=frozenset(map(queue, unverified)),
            ignored=frozenset(map(queue, ignored)),
        )
    )


def rows(reconcile: ReconciledDay, n: int) -> dict[str, tuple[int, str]]:
    """The hour's facts, readably."""
    names = {TOTAL: "total", REST: "rest"}
    return {
        names.get(series, series.member or ""): (fact.volume, f"{fact.money:f}")
        for (series, hour_start), fact in reconcile.facts.items()
        if hour_start == hour(n)
    }


A, B = queue("A"), queue("B")


# ---------------------------------------------------------------- one hour


def test_queues_that_explain_the_total_leave_no_rest() -> None:
    day = reconciled(snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, A, whole({8: (10, "0.5")})))
    assert rows(day, 8) == {"total": (10, "0.5"), "A": (10, "0.5")}
    assert day.day_state.is_explained


def test_what_no_queue_explains_is_the_rest() -> None:
    day = reconciled(snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, A, whole({8: (7, "0.4")})))
    assert rows(day, 8) == {"total": (10, "0.5"), "A": (7, "0.4"), "rest": (3, "0.1")}
    assert not day.day_state.is_explained
    assert day.day_state.unattributed == Measures(3, Decimal("0.1"))


def test_a_total_alone_is_all_rest() -> None:
    day = reconciled(snapshot(1, TOTAL, whole({8: (10, "0.5")})))
    assert rows(day, 8) == {"total": (10, "0.5"), "rest": (10, "0.5")}


def test_an_idle_hour_keeps_the_totals_zero_and_nothing_else() -> None:
    day = reconciled(snapshot(1, TOTAL, whole({})), snapshot(2, A, whole({})))
    assert rows(day, 8) == {"total": (0, "0")}


def test_a_crumb_of_money_within_rounding_explains_and_stays_in_the_rest() -> None:
    day = reconciled(
        snapshot(1, TOTAL, whole({8: (10, "0.500002")})),
        snapshot(2, A, whole({8: (6, "0.3")})),
        snapshot(3, B, whole({8: (4, "0.2")})),
    )
    assert rows(day, 8)["rest"] == (0, "0.000002")
    assert day.day_state.is_explained


def test_a_crumb_beyond_rounding_does_not_explain() -> None:
    day = reconciled(snapshot(1, TOTAL, whole({8: (10, "0.500003")})), snapshot(2, A, whole({8: (10, "0.5")})))
    assert not day.day_state.is_explained


def test_queues_beyond_the_total_are_not_believed_in_that_hour_alone() -> None:
    day = reconciled(
        snapshot(1, TOTAL, whole({8: (10, "0.5"), 9: (4, "0.1")})),
        snapshot(2, A, whole({8: (11, "0.5"), 9: (4, "0.1")})),
    )
    assert rows(day, 8) == {"total": (10, "0.5"), "rest": (10, "0.5")}
    assert rows(day, 9) == {"total": (4, "0.1"), "A": (4, "0.1")}
    assert day.day_state.over_allocated_dimensions
    assert day.day_state.unattributed == Measures(10, Decimal("0.5"))


def test_a_refund_in_the_total_is_kept_with_its_sign() -> None:
    day = reconciled(snapshot(1, TOTAL, whole({8: (0, "-0.25")})))
    assert rows(day, 8) == {"total": (0, "-0.25"), "rest": (0, "-0.25")}
    assert not day.day_state.over_allocated_dimensions


def test_a_queue_without_a_total_beside_it_is_not_used() -> None:
    assert reconciled(snapshot(1, A, whole({8: (10, "0.5")}))).facts == {}


def test_a_doubted_queue_explains_nothing() -> None:
    day = reconciled(
        snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, A, whole({8: (10, "0.5")})), unverified=["A"]
    )
    assert rows(day, 8) == {"total": (10, "0.5"), "rest": (10, "0.5")}


def test_an_ignored_name_is_no_queue_at_all() -> None:
    day = reconciled(
        snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, A, whole({8: (10, "0.5")})), ignored=["A"]
    )
    assert rows(day, 8) == {"total": (10, "0.5"), "rest": (10, "0.5")}
    assert A not in day.day_state.requested_at


# ---------------------------------------------------------------- cuts


SEVEN, HERE = app("7"), ip("192.0.2.1")


def test_every_cut_of_which_something_is_held_sums_to_the_total_by_itself() -> None:
    day = reconciled(
        snapshot(1, TOTAL, whole({8: (10, "0.5")})),
        snapshot(2, A, whole({8: (10, "0.5")})),
        snapshot(3, SEVEN, whole({8: (4, "0.2")})),
    )
    assert {series: fact.volume for (series, at), fact in day.facts.items() if at == hour(8)} == {
        TOTAL: 10, A: 10, SEVEN: 4, SeriesKey(Dimension.APP, None): 6,
    }  # fmt: skip
    assert day.day_state.is_explained
    assert day.day_state.breakdown(Dimension.APP).unattributed == Measures(6, Decimal("0.3"))
    assert Dimension.IP not in day.day_state.breakdowns


def test_an_idle_app_is_held_and_its_cut_is_all_rest() -> None:
    day = reconciled(snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, HERE, whole({})))
    assert day.facts[SeriesKey(Dimension.IP, None), hour(8)].volume == 10
    assert day.day_state.requested_at.keys() == {TOTAL, HERE}


def test_members_that_exceed_the_total_are_kept_with_what_they_claim_together() -> None:
    day = reconciled(
        snapshot(1, TOTAL, whole({8: (10, "0.5")})),
        snapshot(2, A, whole({8: (10, "0.5")})),
        snapshot(3, SEVEN, whole({8: (8, "0.4")})),
        snapshot(4, app("8"), whole({8: (8, "0.4")})),
    )
    assert day.day_state.over_allocated_dimensions == {Dimension.APP}
    [claim] = day.over_allocations.values()
    assert claim == Fact(SeriesKey(Dimension.APP, None), hour(8), 16, Decimal("0.8"), 4)
    assert day.facts[SeriesKey(Dimension.APP, None), hour(8)].volume == 10
    assert day.facts[A, hour(8)].volume == 10


def test_what_is_held_of_an_app_that_ended_stays_and_asks_for_nothing() -> None:
    refused = replace(snapshot(3, SEVEN, {}), outcome=Outcome.API_ERROR, code="ERROR_ACCESS_DENIED")
    snapshots = (snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, SEVEN, whole({8: (4, "0.2")})), refused)
    day = reconcile(DaySnapshots(DAY, snapshots=snapshots, retired=frozenset([SEVEN])))
    assert day.facts[SEVEN, hour(8)].volume == 4
    assert (day.day_state.failed, day.day_state.active_members) == (frozenset(), frozenset())
    assert reconcile(DaySnapshots(DAY, snapshots=snapshots)).day_state.failed == {SEVEN}


# ---------------------------------------------------------------- which hours an answer speaks for


def test_a_missing_hour_inside_the_span_is_zero() -> None:
    day = reconciled(snapshot(1, TOTAL, {8: (10, "0.5"), 10: (1, "0.1")}))
    assert rows(day, 9) == {"total": (0, "0")}


def test_hours_before_the_first_record_are_idle() -> None:
    assert rows(reconciled(snapshot(1, TOTAL, {8: (10, "0.5")})), 7) == {"total": (0, "0")}


def test_hours_after_the_last_record_are_owed_and_absent() -> None:
    day = reconciled(snapshot(1, TOTAL, {8: (10, "0.5")}))
    assert rows(day, 9) == {}
    assert day.day_state.outstanding == ((TOTAL, hour(9)),)


def test_an_answer_without_records_says_that_the_ended_hours_are_idle() -> None:
    day = reconcile(DaySnapshots(DAY, full_day_from_snapshot=1, snapshots=(snapshot(1, TOTAL, {}),)))
    assert len(day.facts) == 24
    assert day.day_state.outstanding == ()


def test_where_the_last_hour_was_never_seen_in_an_answer_one_without_records_does_not_speak_for_it() -> None:
    day = reconciled(snapshot(1, TOTAL, {}))
    assert len(day.facts) == 23
    assert day.day_state.outstanding == ((TOTAL, hour(23)),)


def test_a_tail_that_starts_later_proves_the_owed_hours_idle() -> None:
    day = reconciled(snapshot(1, TOTAL, {8: (10, "0.5")}), snapshot(2, TOTAL, {}, start=9))
    assert rows(day, 9) == {"total": (0, "0")}
    assert day.day_state.outstanding == ()


def test_a_vanished_hour_inside_the_span_becomes_zero() -> None:
    day = reconciled(snapshot(1, TOTAL, whole({9: (5, "0.2")})), snapshot(2, TOTAL, {8: (1, "0.1"), 10: (1, "0.1")}))
    assert rows(day, 9) == {"total": (0, "0")}


def test_a_held_hour_outside_the_span_stays() -> None:
    day = reconciled(
        snapshot(1, TOTAL, whole({23: (5, "0.2"), 2: (1, "0.1")})), snapshot(2, TOTAL, {8: (1, "0.1"), 10: (1, "0.1")})
    )
    assert rows(day, 23)["total"] == (5, "0.2")
    assert rows(day, 2)["total"] == (1, "0.1")


def test_an_empty_answer_for_a_day_that_held_spend_is_believed_the_second_time() -> None:
    held, empty = snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, TOTAL, {})
    assert rows(reconciled(held, empty), 8)["total"] == (10, "0.5")
    assert rows(reconciled(held, empty, snapshot(3, TOTAL, {})), 8)["total"] == (0, "0")


def test_a_refused_record_leaves_its_hour_unsaid() -> None:
    spoiled = replace(
        snapshot(1, TOTAL, {8: (10, "0.5"), 10: (1, "0.1")}),
        outcome=Outcome.PARTIAL,
        rejections=(Rejection("negative volume", "{}", hour(9)),),
    )
    assert rows(reconciled(spoiled), 9) == {}
    assert reconciled(spoiled).day_state.is_failed


def test_the_later_request_wins_whatever_the_order_of_commits() -> None:
    early, late = (
        snapshot(2, TOTAL, whole({8: (1, "0.1")})),
        snapshot(1, TOTAL, whole({8: (2, "0.2")}), NEXT_NIGHT + HOUR),
    )
    assert rows(reconciled(late, early), 8)["total"] == (2, "0.2")
    assert rows(reconciled(early, late), 8)["total"] == (2, "0.2")


def test_a_failed_reading_changes_no_fact() -> None:
    held = snapshot(1, TOTAL, whole({8: (10, "0.5")}))
    broken = replace(snapshot(2, TOTAL, {}), outcome=Outcome.FAILED)
    assert reconciled(held, broken).facts == reconciled(held).facts
    assert reconciled(held, broken).day_state.is_failed


def test_a_grid_beside_the_hour_books_its_hours_on_the_day_asked_for() -> None:
    quarter_to = [Record(hour(n) - timedelta(minutes=15), 1, Decimal("0.1")) for n in range(24)]
    total = replace(snapshot(1, TOTAL, {}), records=tuple(quarter_to))
    day = reconcile(DaySnapshots(DAY, hour_offset_seconds=-900, snapshots=(total,)))
    assert day.day_state.total == Measures(24, Decimal("2.4"))
    assert day.day_state.outstanding == ()


# ---------------------------------------------------------------- the running day


def test_only_hours_that_had_ended_decide_whether_a_running_day_is_explained() -> None:
    noon = hour(12) + timedelta(minutes=30)
    day = reconciled(
        snapshot(1, TOTAL, dict.fromkeys(range(13), (10, "0.5")), noon),
        snapshot(2, A, {**dict.fromkeys(range(12), (10, "0.5")), 12: (12, "0.6")}, noon),
    )
    assert day.day_state.is_explained
    assert not day.day_state.over_allocated_dimensions
    assert rows(day, 12) == {"total": (10, "0.5"), "rest": (10, "0.5")}
    assert not day.day_state.is_closed


def test_a_day_is_closed_ten_minutes_after_its_end() -> None:
    just_before, just_after = hour(24) + timedelta(minutes=9, seconds=58), hour(24) + timedelta(minutes=10)
    assert not reconciled(snapshot(1, TOTAL, whole({}), just_before)).day_state.is_closed
    assert reconciled(snapshot(1, TOTAL, whole({}), just_after)).day_state.is_closed


# ---------------------------------------------------------------- what a commit writes


def test_the_first_reading_of_an_hour_revises_nothing() -> None:
    changes = diff(empty_day(DAY), reconciled(snapshot(1, TOTAL, whole({8: (10, "0.5")}))))
    assert changes.revisions == ()
    assert len(changes.facts) == 25  # 24 hours of the total, one of the rest


def test_the_same_answer_again_writes_nothing() -> None:
    before = reconciled(snapshot(1, TOTAL, whole({8: (10, "0.5")})))
    after = reconciled(snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, TOTAL, whole({8: (10, "0.5")})))
    assert diff(before, after).facts == ()
    assert diff(before, after).revisions == ()


def test_a_queue_read_after_its_total_turns_the_rest_into_its_own_money() -> None:
    total = snapshot(1, TOTAL, whole({8: (10, "0.5")}))
    changes = diff(reconciled(total), reconciled(total, snapshot(2, A, whole({8: (10, "0.5")}))))
    assert {(fact.series, fact.volume) for fact in changes.facts} == {(A, 10), (REST, 0)}
    assert [(row.series, row.cause) for row in changes.revisions] == [(REST, ChangeReason.REATTRIBUTION)]


def test_a_closed_hour_that_changes_is_a_revision_of_the_source() -> None:
    first = snapshot(1, TOTAL, whole({8: (10, "0.5")}))
    changes = diff(reconciled(first), reconciled(first, snapshot(2, TOTAL, whole({8: (11, "0.6")}))))
    revision = next(row for row in changes.revisions if row.series == TOTAL)
    assert (revision.before, revision.after) == (Measures(10, Decimal("0.5")), Measures(11, Decimal("0.6")))
    assert (revision.cause, revision.snapshot) == (ChangeReason.CORRECTION, 2)


def test_a_queues_closed_zero_that_becomes_spend_is_a_revision_though_no_fact_was_kept() -> None:
    total, idle = snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, A, whole({}))
    changes = diff(reconciled(total, idle), reconciled(total, idle, snapshot(3, A, whole({8: (10, "0.5")}))))
    assert (A, ZERO_MEASURES, ChangeReason.CORRECTION) in [
        (row.series, row.before, row.cause) for row in changes.revisions
    ]


def test_an_hour_that_had_not_ended_grows_and_is_not_a_correction() -> None:
    early = snapshot(1, TOTAL, {8: (10, "0.5")}, hour(8) + timedelta(minutes=30))
    changes = diff(reconciled(early), reconciled(early, snapshot(2, TOTAL, whole({8: (20, "1")}))))
    assert {row.cause for row in changes.revisions if row.series == TOTAL} == {ChangeReason.LATE_ARRIVING}


def test_a_name_that_comes_to_be_believed_changes_attribution_only() -> None:
    both = (snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, A, whole({8: (10, "0.5")})))
    changes = diff(reconciled(*both, unverified=["A"]), reconciled(*both))
    assert {row.cause for row in changes.revisions} == {ChangeReason.REATTRIBUTION}


# ---------------------------------------------------------------- of any readings

values = st.tuples(st.integers(0, 50), st.decimals("-0.5", "2", places=6))
answers = st.dictionaries(st.integers(0, 23), values, max_size=24)
series_keys = st.sampled_from([TOTAL, TOTAL, A, B, queue("C")])
asked = st.integers(0, 96).map(lambda n: day_start(DAY) + n * HOUR / 2)


@st.composite
def any_readings(draw: st.DrawFn) -> list[Snapshot]:
    """Totals and queues at any time, short and long, that need not agree with each other at all."""
    drawn = draw(st.lists(st.tuples(series_keys, answers, asked), max_size=8))
    return [
        snapshot(number, series, {n: (volume, str(money)) for n, (volume, money) in said.items() if hour(n) <= at}, at)
        for number, (series, said, at) in enumerate(drawn, 1)
    ]


def summed(facts: Mapping[tuple[SeriesKey, datetime], Fact], at: datetime, of_total: bool) -> Measures:
    chosen = [fact for (series, start), fact in facts.items() if start == at and (series == TOTAL) is of_total]
    return Measures(sum(fact.volume for fact in chosen), sum((fact.money for fact in chosen), Decimal(0)))


@given(any_readings())
def test_whatever_is_read_every_hours_queues_and_rest_sum_to_exactly_its_total(snapshots: list[Snapshot]) -> None:
    facts = reconciled(*snapshots).facts
    for at in {start for _, start in facts}:
        assert summed(facts, at, of_total=False) == summed(facts, at, of_total=True)


@given(any_readings(), st.randoms(use_true_random=False))
def test_the_order_in_which_readings_are_held_changes_no_fact(snapshots: list[Snapshot], random: st.randoms) -> None:  # type: ignore[valid-type]
    shuffled = list(snapshots)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reconciled(*shuffled).facts == reconciled(*snapshots).facts


@given(any_readings(), st.integers(0, 8))
def test_the_changes_of_two_commits_lead_where_one_commit_leads(snapshots: list[Snapshot], dimension: int) -> None:
    held: dict[tuple[SeriesKey, datetime], Fact] = {}
    earlier = empty_day(DAY)
    for part in (snapshots[:dimension], snapshots):
        later = reconciled(*part)
        for fact in diff(earlier, later).facts:
            held[fact.series, fact.hour_start] = fact
            if fact.is_delete:
                del held[fact.series, fact.hour_start]
        earlier = later
    values = {key: (fact.volume, fact.money) for key, fact in held.items()}
    assert values == {key: (fact.volume, fact.money) for key, fact in reconciled(*snapshots).facts.items()}


@given(any_readings(), st.integers(0, 8))
def test_every_fact_that_changes_or_goes_leaves_a_revision_of_what_it_was(
    snapshots: list[Snapshot], dimension: int
) -> None:
    before, after = reconciled(*snapshots[:dimension]), reconciled(*snapshots)
    revised = {(row.series, row.hour_start): row for row in diff(before, after).revisions}
    for key, was in before.facts.items():
        now = after.facts.get(key)
        if now is None or (now.volume, now.money) != (was.volume, was.money):
            if was.is_delete or (now is None and (was.volume, was.money) == ZERO_MEASURES):
                continue
            assert revised[key].before == (was.volume, was.money)


@given(any_readings(), st.integers(0, 8))
def test_every_number_the_source_changes_is_a_revision_with_both_numbers(
    snapshots: list[Snapshot], dimension: int
) -> None:
    before, after = reconciled(*snapshots[:dimension]), reconciled(*snapshots)
    revised = {(row.series, row.hour_start): row for row in diff(before, after).revisions}
    for series, hours in before.sources.items():
        for at, earlier in hours.items():
            later = after.sources[series][at]
            if later.value != earlier.value:
                row = revised[series, at]
                assert (row.before, row.after) == (earlier.value, later.value)
                assert row.cause is (
                    ChangeReason.CORRECTION if earlier.was_complete(at) else ChangeReason.LATE_ARRIVING
                )


@given(any_readings())
def test_what_a_day_is_said_to_leave_unattributed_is_the_sum_of_its_hours(snapshots: list[Snapshot]) -> None:
    day = reconciled(*snapshots)
    unattributed_by_hour = [fact for fact in day.facts.values() if fact.series == REST]
    assert day.day_state.unattributed == (
        sum(fact.volume for fact in unattributed_by_hour),
        sum((fact.money for fact in unattributed_by_hour), Decimal(0)),
    )


@given(any_readings())
def test_a_queue_never_holds_money_it_did_not_answer(snapshots: list[Snapshot]) -> None:
    for (series, at), fact in reconciled(*snapshots).facts.items():
        if not series.is_unattributed:
            said = [
                record.value
                for one in snapshots
                if one.window.series == series
                for record in one.records
                if record.hour_start == at
            ]
            assert (fact.volume, fact.money) in [*said, ZERO_MEASURES]


def test_a_day_of_which_nothing_was_read_has_no_verdict_to_go_by() -> None:
    assert empty_day(DAY).day_state == DayState(DAY)
    assert not empty_day(DAY).day_state.is_explained


# ---------------------------------------------------------------- hours read again


def test_spend_that_a_later_answer_does_not_speak_for_is_owed_again() -> None:
    first, tail = (
        snapshot(1, TOTAL, dict.fromkeys(range(23), (1, "0.1"))),
        snapshot(2, TOTAL, {23: (5, "0.5")}, start=23),
    )
    assert reconciled(first, tail).day_state.outstanding == ()
    again = snapshot(3, TOTAL, dict.fromkeys(range(23), (1, "0.1")), NEXT_NIGHT + HOUR)
    assert reconciled(first, tail, again).day_state.outstanding == ((TOTAL, hour(23)),)


def test_a_day_that_owes_an_hour_is_not_read_to_its_end() -> None:
    short = reconciled(snapshot(1, TOTAL, {8: (10, "0.5")})).day_state
    assert not short.read_since(NEXT_NIGHT)
    assert reconciled(
        snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, A, whole({8: (10, "0.5")}))
    ).day_state.read_since(NEXT_NIGHT)


def test_a_tail_that_starts_later_proves_idle_even_an_hour_that_held_spend() -> None:
    held = snapshot(1, TOTAL, whole({22: (5, "0.5"), 23: (1, "0.1")}))
    tail = snapshot(2, TOTAL, {23: (1, "0.1")}, start=22)
    assert rows(reconciled(held, tail), 22)["total"] == (0, "0")


def test_a_tail_does_not_make_the_whole_day_read_anew() -> None:
    total = snapshot(1, TOTAL, {8: (10, "0.5")})
    tail = snapshot(2, TOTAL, {}, NEXT_NIGHT + 24 * HOUR, start=9)
    assert reconciled(total, tail).day_state.total_requested_at == total.requested_at


def test_a_failed_tail_is_forgiven_when_a_later_whole_answer_covers_its_hours() -> None:
    tail = replace(snapshot(1, TOTAL, {}, start=23), outcome=Outcome.FAILED)
    assert reconciled(tail).day_state.failed == {TOTAL}
    assert reconciled(tail, snapshot(2, TOTAL, whole({}))).day_state.failed == frozenset()


def test_a_whole_day_that_failed_is_not_forgiven_by_a_later_tail() -> None:
    failed = replace(snapshot(1, TOTAL, {}), outcome=Outcome.FAILED)
    assert reconciled(failed, snapshot(2, TOTAL, {}, start=23)).day_state.failed == {TOTAL}


def test_a_correction_seen_while_queues_contradict_the_total_keeps_the_sources_numbers() -> None:
    total, name = snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, A, whole({8: (10, "0.5")}))
    lower = snapshot(3, TOTAL, whole({8: (9, "0.4")}))
    then = snapshot(4, A, whole({8: (9, "0.4")}))
    revision = next(
        row
        for row in diff(reconciled(total, name, lower), reconciled(total, name, lower, then)).revisions
        if row.series == A
    )
    assert (revision.before, revision.after, revision.cause) == (
        Measures(10, Decimal("0.5")),
        Measures(9, Decimal("0.4")),
        ChangeReason.CORRECTION,
    )


def test_a_fact_that_goes_leaves_a_revision_though_its_filter_is_now_ignored() -> None:
    both = (snapshot(1, TOTAL, whole({8: (10, "0.5")})), snapshot(2, A, whole({8: (10, "0.5")})))
    revisions = diff(reconciled(*both), reconciled(*both, ignored=["A"])).revisions
    assert [(row.series, row.before, row.cause) for row in revisions] == [
        (A, Measures(10, Decimal("0.5")), ChangeReason.REATTRIBUTION)
    ]


def test_an_empty_answer_does_not_reach_where_the_totals_own_did_not() -> None:
    total, tail = snapshot(1, TOTAL, {8: (1, "0.1"), 22: (1, "0.1")}), snapshot(2, TOTAL, {23: (5, "0.5")}, start=23)
    day_state = reconciled(total, tail, snapshot(3, A, {8: (1, "0.1"), 22: (1, "0.1")}), snapshot(4, B, {})).day_state
    assert day_state.outstanding == ((A, hour(23)), (B, hour(23)))
