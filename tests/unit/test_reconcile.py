"""Reconciling the snapshots of a day into facts, unattributed amounts and revisions: examples and properties."""

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
from etl.transform.hours import completed_hours
from etl.transform.reconcile import DaySnapshots, ReconciledDay, add_snapshots, diff, empty_day, reconcile
from tests.core import facts_of, hour_values, records_of, written_facts

DAY = date(2026, 11, 2)
UNATTRIBUTED = SeriesKey(Dimension.QUEUE, None)
NEXT_DAY = datetime(2026, 11, 3, 2, tzinfo=UTC)

HourValues = Mapping[int, tuple[int, str]]
"""Hour of the day → (tasks, dollars)."""


def hour(n: int) -> datetime:
    return day_start(DAY) + n * HOUR


def snapshot(
    number: int, series: SeriesKey, by_hour: HourValues, requested_at: datetime = NEXT_DAY, start: int = 0
) -> Snapshot:
    window = replace(Window.whole_day("default", series, DAY), start=hour(start))
    records = tuple(Record(hour(n), volume, Decimal(money)) for n, (volume, money) in sorted(by_hour.items()))
    return Snapshot(
        number, window, requested_at + timedelta(seconds=number), Outcome.SUCCESS, hour_values(records, DAY)
    )


def full_day(by_hour: HourValues) -> HourValues:
    """A day's 24 records, idle hours as zeros."""
    return {n: by_hour.get(n, (0, "0")) for n in range(24)}


def reconciled(*snapshots: Snapshot, unverified: Sequence[str] = (), ignored: Sequence[str] = ()) -> ReconciledDay:
    return reconcile(
        DaySnapshots(
            DAY,
            snapshots=snapshots,
            unverified=frozenset(map(queue, unverified)),
            ignored=frozenset(map(queue, ignored)),
        )
    )


def rows(day: ReconciledDay, n: int) -> dict[str, tuple[int, str]]:
    """Return the facts of an hour by short names."""
    names = {TOTAL: "total", UNATTRIBUTED: "unattributed"}
    return {
        names.get(series, series.member or ""): (fact.volume, f"{fact.money.normalize():f}")
        for (series, hour_start), fact in facts_of(day).items()
        if hour_start == hour(n)
    }


A, B = queue("A"), queue("B")


# ---------------------------------------------------------------- one hour


def test_queues_that_add_up_to_the_total_leave_nothing_unattributed() -> None:
    day = reconciled(snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, A, full_day({8: (10, "0.5")})))
    assert rows(day, 8) == {"total": (10, "0.5"), "A": (10, "0.5")}
    assert day.day_state.is_explained


def test_the_difference_between_total_and_queues_is_unattributed() -> None:
    day = reconciled(snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, A, full_day({8: (7, "0.4")})))
    assert rows(day, 8) == {"total": (10, "0.5"), "A": (7, "0.4"), "unattributed": (3, "0.1")}
    assert not day.day_state.is_explained
    assert day.day_state.unattributed == Measures(3, Decimal("0.1"))


def test_tasks_without_money_may_be_unattributed_beside_a_queue() -> None:
    day = reconciled(
        snapshot(1, TOTAL, full_day({8: (10, "0.5"), 9: (10, "0.5")})),
        snapshot(2, A, full_day({8: (7, "0.5"), 9: (7, "0.500001")})),
    )
    assert rows(day, 8) == {"total": (10, "0.5"), "A": (7, "0.5"), "unattributed": (3, "0")}
    assert rows(day, 9) == {"total": (10, "0.5"), "A": (7, "0.500001"), "unattributed": (3, "-0.000001")}
    assert not day.day_state.over_allocated_dimensions


def test_a_total_without_queues_is_all_unattributed() -> None:
    day = reconciled(snapshot(1, TOTAL, full_day({8: (10, "0.5")})))
    assert rows(day, 8) == {"total": (10, "0.5"), "unattributed": (10, "0.5")}


def test_an_hour_without_spend_only_has_the_total_zero() -> None:
    day = reconciled(snapshot(1, TOTAL, full_day({})), snapshot(2, A, full_day({})))
    assert rows(day, 8) == {"total": (0, "0")}


def test_a_difference_within_rounding_counts_as_explained_and_stays_unattributed() -> None:
    day = reconciled(
        snapshot(1, TOTAL, full_day({8: (10, "0.500002")})),
        snapshot(2, A, full_day({8: (6, "0.3")})),
        snapshot(3, B, full_day({8: (4, "0.2")})),
    )
    assert rows(day, 8)["unattributed"] == (0, "0.000002")
    assert day.day_state.is_explained


def test_a_difference_larger_than_rounding_is_not_explained() -> None:
    day = reconciled(snapshot(1, TOTAL, full_day({8: (10, "0.500003")})), snapshot(2, A, full_day({8: (10, "0.5")})))
    assert not day.day_state.is_explained


def test_queues_that_exceed_the_total_are_ignored_in_that_hour_only() -> None:
    day = reconciled(
        snapshot(1, TOTAL, full_day({8: (10, "0.5"), 9: (4, "0.1")})),
        snapshot(2, A, full_day({8: (11, "0.5"), 9: (4, "0.1")})),
    )
    assert rows(day, 8) == {"total": (10, "0.5"), "unattributed": (10, "0.5")}
    assert rows(day, 9) == {"total": (4, "0.1"), "A": (4, "0.1")}
    assert day.day_state.over_allocated_dimensions
    assert day.day_state.unattributed == Measures(10, Decimal("0.5"))


def test_an_over_allocation_names_the_newest_snapshot_with_spend_in_its_hour() -> None:
    day = reconciled(
        snapshot(1, TOTAL, full_day({8: (10, "0.5")})),
        snapshot(2, A, full_day({8: (6, "0.3")})),
        snapshot(3, B, full_day({8: (6, "0")})),
        snapshot(4, queue("C"), full_day({9: (0, "0")})),
    )
    assert day.over_allocations == [Fact(UNATTRIBUTED, hour(8), 12, 300_000_000, 3)]


def test_a_day_knows_which_hours_of_its_total_no_whole_day_response_covers() -> None:
    until_22 = dict.fromkeys(range(23), (1, "0.1"))
    day = reconciled(snapshot(1, TOTAL, until_22), snapshot(2, TOTAL, {23: (2, "0.2")}, start=23))
    assert day.day_state.hours_without_full_day_response == {23}
    later = reconciled(*day.inputs.snapshots, snapshot(3, TOTAL, until_22 | {23: (2, "0.2")}))
    assert later.day_state.hours_without_full_day_response == frozenset()


def test_a_response_without_records_says_nothing_about_hours_still_running() -> None:
    day = reconciled(snapshot(1, TOTAL, {}, requested_at=hour(5) + timedelta(minutes=30)))
    assert [n for n in range(24) if rows(day, n)] == [0, 1, 2, 3, 4]


def test_an_hour_still_running_neither_explains_nor_exceeds_a_day() -> None:
    at_last_hour = hour(23) + timedelta(minutes=30)
    total = snapshot(1, TOTAL, full_day({8: (10, "0.5"), 23: (1, "0.1")}), requested_at=at_last_hour)
    more = snapshot(2, A, full_day({8: (10, "0.5"), 23: (9, "0.9")}), requested_at=at_last_hour)
    assert not reconciled(total, more).day_state.over_allocated_dimensions
    assert reconciled(total, more).day_state.is_explained
    later = replace(total, number=3, requested_at=NEXT_DAY)
    assert reconciled(total, more, later).day_state.over_allocated_dimensions
    assert not reconciled(total, more, later).day_state.is_explained


def test_from_none_to_all_hours_of_a_day_may_be_over() -> None:
    moments = [hour(0) - HOUR, hour(0), hour(1) - timedelta(seconds=1), hour(1), hour(23), hour(24), hour(99)]
    assert [completed_hours(hour(0), moment) for moment in moments] == [0, 0, 0, 1, 23, 24, 24]


def test_a_changed_fact_names_the_snapshot_of_its_value() -> None:
    total = snapshot(1, TOTAL, full_day({8: (10, "0.5")}))
    parts = snapshot(2, A, full_day({8: (4, "0.2")})), snapshot(3, B, full_day({8: (5, "0.2")}))
    changes = diff(reconciled(total), reconciled(total, *parts))
    assert changes.changed == (Fact(UNATTRIBUTED, hour(8), 1, 100_000_000, 1),)
    gone = diff(reconciled(total), reconciled(total, *parts, snapshot(4, queue("C"), full_day({8: (1, "0.1")}))))
    assert gone.changed == (Fact(UNATTRIBUTED, hour(8), 0, 0, 4),)


def test_a_stored_zero_that_is_gone_is_no_revision() -> None:
    changes = diff(reconciled(snapshot(1, TOTAL, full_day({8: (10, "0.5")}))), empty_day(DAY))
    assert {(one.series, one.hour_start) for one in changes.revisions} == {(TOTAL, hour(8)), (UNATTRIBUTED, hour(8))}
    assert {one.snapshot for one in changes.revisions} == {0}


def test_a_refund_in_the_total_keeps_its_sign() -> None:
    day = reconciled(snapshot(1, TOTAL, full_day({8: (0, "-0.25")})))
    assert rows(day, 8) == {"total": (0, "-0.25"), "unattributed": (0, "-0.25")}
    assert not day.day_state.over_allocated_dimensions


def test_a_queue_without_a_total_has_no_facts() -> None:
    assert reconciled(snapshot(1, A, full_day({8: (10, "0.5")}))).facts == {}


def test_an_unverified_queue_gets_no_facts() -> None:
    day = reconciled(
        snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, A, full_day({8: (10, "0.5")})), unverified=["A"]
    )
    assert rows(day, 8) == {"total": (10, "0.5"), "unattributed": (10, "0.5")}


def test_an_excluded_queue_is_left_out() -> None:
    day = reconciled(
        snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, A, full_day({8: (10, "0.5")})), ignored=["A"]
    )
    assert rows(day, 8) == {"total": (10, "0.5"), "unattributed": (10, "0.5")}
    assert A not in day.day_state.requested_at


# ---------------------------------------------------------------- dimensions


APP, ADDRESS = app("7"), ip("192.0.2.1")


def test_each_requested_dimension_adds_up_to_the_total() -> None:
    day = reconciled(
        snapshot(1, TOTAL, full_day({8: (10, "0.5")})),
        snapshot(2, A, full_day({8: (10, "0.5")})),
        snapshot(3, APP, full_day({8: (4, "0.2")})),
    )
    assert {series: fact.volume for (series, at), fact in facts_of(day).items() if at == hour(8)} == {
        TOTAL: 10, A: 10, APP: 4, SeriesKey(Dimension.APP, None): 6,
    }  # fmt: skip
    assert day.day_state.is_explained
    assert day.day_state.breakdown(Dimension.APP).unattributed == Measures(6, Decimal("0.3"))
    assert Dimension.IP not in day.day_state.breakdowns


def test_a_dimension_whose_only_member_has_no_spend_is_all_unattributed() -> None:
    day = reconciled(snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, ADDRESS, full_day({})))
    assert facts_of(day)[SeriesKey(Dimension.IP, None), hour(8)].volume == 10
    assert day.day_state.requested_at.keys() == {TOTAL, ADDRESS}


def test_members_that_exceed_the_total_are_recorded_with_their_sum() -> None:
    day = reconciled(
        snapshot(1, TOTAL, full_day({8: (10, "0.5")})),
        snapshot(2, A, full_day({8: (10, "0.5")})),
        snapshot(3, APP, full_day({8: (8, "0.4")})),
        snapshot(4, app("8"), full_day({8: (8, "0.4")})),
    )
    assert day.day_state.over_allocated_dimensions == {Dimension.APP}
    [over_allocation] = day.over_allocations
    assert over_allocation == Fact(SeriesKey(Dimension.APP, None), hour(8), 16, 800_000_000, 4)
    assert facts_of(day)[SeriesKey(Dimension.APP, None), hour(8)].volume == 10
    assert facts_of(day)[A, hour(8)].volume == 10


def test_a_retired_app_keeps_its_facts_and_needs_no_request() -> None:
    refused = replace(snapshot(3, APP, {}), outcome=Outcome.API_ERROR, code="ERROR_ACCESS_DENIED")
    snapshots = (snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, APP, full_day({8: (4, "0.2")})), refused)
    day = reconcile(DaySnapshots(DAY, snapshots=snapshots, retired=frozenset([APP])))
    assert facts_of(day)[APP, hour(8)].volume == 4
    assert (day.day_state.failed, day.day_state.active_members) == (frozenset(), frozenset())
    assert reconcile(DaySnapshots(DAY, snapshots=snapshots)).day_state.failed == {APP}


# ---------------------------------------------------------------- which hours a response covers


def test_a_missing_hour_between_two_records_is_zero() -> None:
    day = reconciled(snapshot(1, TOTAL, {8: (10, "0.5"), 10: (1, "0.1")}))
    assert rows(day, 9) == {"total": (0, "0")}


def test_hours_before_the_first_record_are_zero() -> None:
    assert rows(reconciled(snapshot(1, TOTAL, {8: (10, "0.5")})), 7) == {"total": (0, "0")}


def test_hours_after_the_last_record_are_outstanding_and_have_no_facts() -> None:
    day = reconciled(snapshot(1, TOTAL, {8: (10, "0.5")}))
    assert rows(day, 9) == {}
    assert day.day_state.outstanding == ((TOTAL, hour(9)),)


def test_an_empty_response_means_that_all_completed_hours_are_zero() -> None:
    day = reconcile(DaySnapshots(DAY, full_day_from_snapshot=1, snapshots=(snapshot(1, TOTAL, {}),)))
    assert len(facts_of(day)) == 24
    assert day.day_state.outstanding == ()


def test_an_empty_response_does_not_cover_a_last_hour_that_this_account_never_returned() -> None:
    day = reconciled(snapshot(1, TOTAL, {}))
    assert len(facts_of(day)) == 23
    assert day.day_state.outstanding == ((TOTAL, hour(23)),)


def test_a_later_window_of_the_same_day_shows_that_outstanding_hours_are_zero() -> None:
    day = reconciled(snapshot(1, TOTAL, {8: (10, "0.5")}), snapshot(2, TOTAL, {}, start=9))
    assert rows(day, 9) == {"total": (0, "0")}
    assert day.day_state.outstanding == ()


def test_an_hour_that_vanishes_between_two_records_becomes_zero() -> None:
    day = reconciled(snapshot(1, TOTAL, full_day({9: (5, "0.2")})), snapshot(2, TOTAL, {8: (1, "0.1"), 10: (1, "0.1")}))
    assert rows(day, 9) == {"total": (0, "0")}


def test_a_stored_hour_outside_the_covered_hours_stays() -> None:
    day = reconciled(
        snapshot(1, TOTAL, full_day({23: (5, "0.2"), 2: (1, "0.1")})),
        snapshot(2, TOTAL, {8: (1, "0.1"), 10: (1, "0.1")}),
    )
    assert rows(day, 23)["total"] == (5, "0.2")
    assert rows(day, 2)["total"] == (1, "0.1")


def test_an_empty_response_for_a_day_with_spend_only_counts_the_second_time() -> None:
    stored, empty = snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, TOTAL, {})
    assert rows(reconciled(stored, empty), 8)["total"] == (10, "0.5")
    assert rows(reconciled(stored, empty, snapshot(3, TOTAL, {})), 8)["total"] == (0, "0")


def test_an_hour_without_spend_needs_only_one_empty_response_to_be_read_again() -> None:
    first = snapshot(1, TOTAL, {}), snapshot(2, TOTAL, {}, start=23)
    assert reconciled(*first).day_state.outstanding == ()
    again = (*first, snapshot(3, TOTAL, {}))
    assert reconciled(*again).day_state.outstanding == ((TOTAL, hour(23)),)
    assert reconciled(*again, snapshot(4, TOTAL, {}, start=23)).day_state.outstanding == ()


def test_a_rejected_record_leaves_its_hour_without_facts() -> None:
    partial = replace(
        snapshot(1, TOTAL, {8: (10, "0.5"), 10: (1, "0.1")}),
        outcome=Outcome.PARTIAL,
        rejections=(Rejection("negative volume", "{}", hour(9)),),
    )
    assert rows(reconciled(partial), 9) == {}
    assert reconciled(partial).day_state.is_failed


def test_the_later_request_wins_in_any_order_of_commits() -> None:
    early, late = (
        snapshot(2, TOTAL, full_day({8: (1, "0.1")})),
        snapshot(1, TOTAL, full_day({8: (2, "0.2")}), NEXT_DAY + HOUR),
    )
    assert rows(reconciled(late, early), 8)["total"] == (2, "0.2")
    assert rows(reconciled(early, late), 8)["total"] == (2, "0.2")


def test_a_failed_snapshot_changes_no_fact() -> None:
    stored = snapshot(1, TOTAL, full_day({8: (10, "0.5")}))
    failed = replace(snapshot(2, TOTAL, {}), outcome=Outcome.FAILED)
    assert reconciled(stored, failed).facts == reconciled(stored).facts
    assert reconciled(stored, failed).day_state.is_failed


def test_hours_with_an_offset_belong_to_the_requested_day() -> None:
    quarter_to = [Record(hour(n) - timedelta(minutes=15), 1, Decimal("0.1")) for n in range(24)]
    total = replace(snapshot(1, TOTAL, {}), values=hour_values(quarter_to, DAY, -900), hour_offset_seconds=-900)
    day = reconcile(DaySnapshots(DAY, hour_offset_seconds=-900, snapshots=(total,)))
    assert day.day_state.total == Measures(24, Decimal("2.4"))
    assert day.day_state.outstanding == ()


# ---------------------------------------------------------------- the running day


def test_only_completed_hours_decide_whether_today_is_explained() -> None:
    noon = hour(12) + timedelta(minutes=30)
    day = reconciled(
        snapshot(1, TOTAL, dict.fromkeys(range(13), (10, "0.5")), noon),
        snapshot(2, A, {**dict.fromkeys(range(12), (10, "0.5")), 12: (12, "0.6")}, noon),
    )
    assert day.day_state.is_explained
    assert not day.day_state.over_allocated_dimensions
    assert rows(day, 12) == {"total": (10, "0.5"), "unattributed": (10, "0.5")}
    assert not day.day_state.is_closed


def test_a_day_is_closed_ten_minutes_after_its_end() -> None:
    just_before, just_after = hour(24) + timedelta(minutes=9, seconds=58), hour(24) + timedelta(minutes=10)
    assert not reconciled(snapshot(1, TOTAL, full_day({}), just_before)).day_state.is_closed
    assert reconciled(snapshot(1, TOTAL, full_day({}), just_after)).day_state.is_closed


# ---------------------------------------------------------------- what a commit writes


def test_the_first_snapshot_of_an_hour_is_not_a_revision() -> None:
    before, after = empty_day(DAY), reconciled(snapshot(1, TOTAL, full_day({8: (10, "0.5")})))
    assert diff(before, after).revisions == ()
    assert len(written_facts(before, after)) == 25  # 24 hours of the total, one unattributed


def test_the_same_response_again_writes_nothing() -> None:
    before = reconciled(snapshot(1, TOTAL, full_day({8: (10, "0.5")})))
    after = reconciled(snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, TOTAL, full_day({8: (10, "0.5")})))
    assert written_facts(before, after) == []
    assert diff(before, after).revisions == ()


def test_a_queue_read_after_its_total_takes_over_the_unattributed_amount() -> None:
    total = snapshot(1, TOTAL, full_day({8: (10, "0.5")}))
    before, after = reconciled(total), reconciled(total, snapshot(2, A, full_day({8: (10, "0.5")})))
    changes = diff(before, after)
    assert {(fact.series, fact.volume) for fact in written_facts(before, after)} == {(A, 10), (UNATTRIBUTED, 0)}
    assert [(row.series, row.cause) for row in changes.revisions] == [(UNATTRIBUTED, ChangeReason.REATTRIBUTION)]


def test_a_change_of_a_completed_hour_is_a_correction() -> None:
    first = snapshot(1, TOTAL, full_day({8: (10, "0.5")}))
    changes = diff(reconciled(first), reconciled(first, snapshot(2, TOTAL, full_day({8: (11, "0.6")}))))
    revision = next(row for row in changes.revisions if row.series == TOTAL)
    assert (revision.before, revision.after) == (Measures(10, Decimal("0.5")), Measures(11, Decimal("0.6")))
    assert (revision.cause, revision.snapshot) == (ChangeReason.CORRECTION, 2)


def test_a_completed_zero_hour_that_gets_spend_is_a_correction() -> None:
    total, idle = snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, A, full_day({}))
    changes = diff(reconciled(total, idle), reconciled(total, idle, snapshot(3, A, full_day({8: (10, "0.5")}))))
    assert (A, ZERO_MEASURES, ChangeReason.CORRECTION) in [
        (row.series, row.before, row.cause) for row in changes.revisions
    ]


def test_growth_of_an_unfinished_hour_is_late_arriving_data() -> None:
    early = snapshot(1, TOTAL, {8: (10, "0.5")}, hour(8) + timedelta(minutes=30))
    changes = diff(reconciled(early), reconciled(early, snapshot(2, TOTAL, full_day({8: (20, "1")}))))
    assert {row.cause for row in changes.revisions if row.series == TOTAL} == {ChangeReason.LATE_ARRIVING}


def test_verifying_a_name_only_changes_the_attribution() -> None:
    both = (snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, A, full_day({8: (10, "0.5")})))
    changes = diff(reconciled(*both, unverified=["A"]), reconciled(*both))
    assert {row.cause for row in changes.revisions} == {ChangeReason.REATTRIBUTION}


# ---------------------------------------------------------------- properties of any snapshots

values = st.tuples(st.integers(0, 50), st.decimals("-0.5", "2", places=6))
values_by_hour = st.dictionaries(st.integers(0, 23), values, max_size=24)
series_keys = st.sampled_from([TOTAL, TOTAL, A, B, queue("C")])
request_times = st.integers(0, 96).map(lambda n: day_start(DAY) + n * HOUR / 2)


@st.composite
def any_snapshots(draw: st.DrawFn) -> list[Snapshot]:
    """Totals and queues read at any time, with any records; they need not agree."""
    drawn = draw(st.lists(st.tuples(series_keys, values_by_hour, request_times), max_size=8))
    return [
        snapshot(
            number, series, {n: (volume, str(money)) for n, (volume, money) in by_hour.items() if hour(n) <= at}, at
        )
        for number, (series, by_hour, at) in enumerate(drawn, 1)
    ]


def summed(facts: Mapping[tuple[SeriesKey, datetime], Fact], at: datetime, of_total: bool) -> Measures:
    chosen = [fact for (series, start), fact in facts.items() if start == at and (series == TOTAL) is of_total]
    return Measures(sum(fact.volume for fact in chosen), sum((fact.money for fact in chosen), Decimal(0)))


@given(any_snapshots())
def test_queues_and_unattributed_of_every_hour_add_up_exactly_to_the_total(snapshots: list[Snapshot]) -> None:
    facts = facts_of(reconciled(*snapshots))
    for at in {start for _, start in facts}:
        assert summed(facts, at, of_total=False) == summed(facts, at, of_total=True)


@given(any_snapshots(), st.randoms(use_true_random=False))
def test_the_order_of_snapshots_changes_no_fact(snapshots: list[Snapshot], random: st.randoms) -> None:  # type: ignore[valid-type]
    shuffled = list(snapshots)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reconciled(*shuffled).facts == reconciled(*snapshots).facts


@given(any_snapshots(), st.integers(0, 8))
def test_the_changes_of_two_commits_equal_those_of_one(snapshots: list[Snapshot], split: int) -> None:
    stored: dict[tuple[SeriesKey, datetime], Fact] = {}
    earlier = empty_day(DAY)
    for part in (snapshots[:split], snapshots):
        later = reconciled(*part)
        for fact in written_facts(earlier, later):
            stored[fact.series, fact.hour_start] = fact
            if fact.is_delete:
                del stored[fact.series, fact.hour_start]
        earlier = later
    values = {key: (fact.volume, fact.money) for key, fact in stored.items()}
    assert values == {key: (fact.volume, fact.money) for key, fact in facts_of(reconciled(*snapshots)).items()}


@given(any_snapshots(), st.integers(0, 8))
def test_every_changed_or_deleted_fact_has_a_revision_with_its_old_value(snapshots: list[Snapshot], split: int) -> None:
    before, after = reconciled(*snapshots[:split]), reconciled(*snapshots)
    revised = {(row.series, row.hour_start): row for row in diff(before, after).revisions}
    for key, was in facts_of(before).items():
        now = facts_of(after).get(key)
        if now is None or (now.volume, now.money) != (was.volume, was.money):
            if was.is_delete or (now is None and (was.volume, was.money) == ZERO_MEASURES):
                continue
            assert revised[key].before == (was.volume, was.money)


@given(any_snapshots(), st.integers(0, 8))
def test_every_value_that_the_api_changes_has_a_revision_with_both_values(
    snapshots: list[Snapshot], split: int
) -> None:
    before, after = reconciled(*snapshots[:split]), reconciled(*snapshots)
    revised = {(row.series, row.hour_start): row for row in diff(before, after).revisions}
    for series, hours in before.series.items():
        for number in hours.values.hours:
            earlier, later = (Measures.of(*day.series[series].values.at(number)) for day in (before, after))
            if later != earlier:
                row = revised[series, hour(number)]
                assert (row.before, row.after) == (earlier, later)
                was_complete = number in hours.complete
                assert row.cause is (ChangeReason.CORRECTION if was_complete else ChangeReason.LATE_ARRIVING)


@st.composite
def any_inputs(draw: st.DrawFn) -> list[DaySnapshots]:
    """A day as it grows: snapshots of any kind in groups, while names are verified, excluded or retired."""
    outcomes = st.sampled_from([Outcome.SUCCESS] * 4 + [Outcome.PARTIAL, Outcome.FAILED, Outcome.API_ERROR])
    kinds = st.tuples(outcomes, st.sampled_from([0, 0, 0, 5, 23]), st.booleans())
    names = st.sets(st.sampled_from([A, B, queue("C"), APP]), max_size=2)
    inputs, snapshots = [], list[Snapshot]()
    unverified, full_day_from = draw(names), draw(st.sampled_from([None, 1, 3]))
    for group in draw(st.lists(st.lists(kinds, min_size=1, max_size=3), max_size=5)):
        unverified = draw(names) if draw(st.integers(0, 3)) == 0 else unverified
        for outcome, start, is_complete in group:
            series = draw(st.sampled_from([TOTAL, TOTAL, A, B, queue("C"), APP]))
            by_hour: HourValues = {n: (v, str(m)) for n, (v, m) in draw(values_by_hour).items() if n >= start}
            by_hour = full_day(by_hour) if is_complete and not start else by_hour
            by_hour = by_hour if outcome in (Outcome.SUCCESS, Outcome.PARTIAL) else {}
            at = day_start(DAY) + HOUR * draw(st.integers(0, 60))
            item = snapshot(len(snapshots) + 1, series, by_hour, at, start)
            rejections = (
                (Rejection("", "", draw(st.sampled_from([None, hour(7)]))),) if outcome is Outcome.PARTIAL else ()
            )
            snapshots.append(replace(item, outcome=outcome, rejections=rejections))
        known = {one.window.series for one in snapshots}
        inputs.append(
            DaySnapshots(
                DAY,
                full_day_from_snapshot=full_day_from,
                snapshots=tuple(snapshots),
                unverified=frozenset(unverified & known),
                ignored=frozenset({B} & known if draw(st.integers(0, 4)) == 0 else ()),
                retired=frozenset({queue("C")} & known if draw(st.integers(0, 4)) == 0 else ()),
            )
        )
    return inputs


@given(any_inputs())
def test_adding_snapshots_gives_what_reconciling_all_of_them_gives(inputs: list[DaySnapshots]) -> None:
    day = empty_day(DAY)
    for added in inputs:
        day = add_snapshots(day, added)
        assert day == reconcile(added)
        assert day.facts == reconcile(added).facts


@given(any_snapshots())
def test_the_unattributed_amount_of_a_day_is_the_sum_of_its_hours(snapshots: list[Snapshot]) -> None:
    day = reconciled(*snapshots)
    unattributed_by_hour = [fact for fact in facts_of(day).values() if fact.series == UNATTRIBUTED]
    assert day.day_state.unattributed == (
        sum(fact.volume for fact in unattributed_by_hour),
        sum((fact.money for fact in unattributed_by_hour), Decimal(0)),
    )


@given(any_snapshots())
def test_facts_of_a_queue_are_always_values_that_the_api_returned(snapshots: list[Snapshot]) -> None:
    for (series, at), fact in facts_of(reconciled(*snapshots)).items():
        if not series.is_unattributed:
            by_hour = [
                record.value
                for item in snapshots
                if item.window.series == series
                for record in records_of(item)
                if record.hour_start == at
            ]
            assert (fact.volume, fact.money) in [*by_hour, ZERO_MEASURES]


def test_a_day_without_snapshots_has_an_empty_day_state() -> None:
    assert empty_day(DAY).day_state == DayState(DAY)
    assert not empty_day(DAY).day_state.is_explained


# ---------------------------------------------------------------- later snapshots of the same hours


def test_an_hour_that_a_later_response_does_not_cover_is_outstanding_again() -> None:
    first, tail = (
        snapshot(1, TOTAL, dict.fromkeys(range(23), (1, "0.1"))),
        snapshot(2, TOTAL, {23: (5, "0.5")}, start=23),
    )
    assert reconciled(first, tail).day_state.outstanding == ()
    again = snapshot(3, TOTAL, dict.fromkeys(range(23), (1, "0.1")), NEXT_DAY + HOUR)
    assert reconciled(first, tail, again).day_state.outstanding == ((TOTAL, hour(23)),)


def test_the_idle_last_hour_of_an_earlier_window_is_outstanding_until_whole_days_are_known_to_have_it() -> None:
    first = snapshot(1, TOTAL, dict.fromkeys(range(23), (1, "0.1")))
    tail = snapshot(2, TOTAL, {23: (0, "0")}, start=23)
    again = snapshot(3, TOTAL, dict.fromkeys(range(23), (1, "0.1")), NEXT_DAY + HOUR)
    assert reconciled(first, tail).day_state.outstanding == ()
    assert reconciled(first, tail, again).day_state.outstanding == ((TOTAL, hour(23)),)
    known = replace(DaySnapshots(DAY), full_day_from_snapshot=1).with_snapshots([first, tail, again])
    assert reconcile(known).day_state.outstanding == ()


def test_a_record_of_the_last_hour_covers_it_although_others_are_missing() -> None:
    whole = snapshot(1, TOTAL, {4: (1, "0.1"), 23: (0, "0")})
    assert reconciled(whole).day_state.outstanding == ()


def test_a_day_with_outstanding_hours_does_not_count_as_read() -> None:
    short = reconciled(snapshot(1, TOTAL, {8: (10, "0.5")})).day_state
    assert not short.read_since(NEXT_DAY)
    assert reconciled(
        snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, A, full_day({8: (10, "0.5")}))
    ).day_state.read_since(NEXT_DAY)


def test_a_later_window_of_the_same_day_can_set_an_hour_with_spend_to_zero() -> None:
    stored = snapshot(1, TOTAL, full_day({22: (5, "0.5"), 23: (1, "0.1")}))
    tail = snapshot(2, TOTAL, {23: (1, "0.1")}, start=22)
    assert rows(reconciled(stored, tail), 22)["total"] == (0, "0")


def test_a_partial_day_request_does_not_count_as_a_new_total() -> None:
    total = snapshot(1, TOTAL, {8: (10, "0.5")})
    tail = snapshot(2, TOTAL, {}, NEXT_DAY + 24 * HOUR, start=9)
    assert reconciled(total, tail).day_state.total_requested_at == total.requested_at


def test_a_failed_partial_day_no_longer_counts_after_a_full_day_response() -> None:
    tail = replace(snapshot(1, TOTAL, {}, start=23), outcome=Outcome.FAILED)
    assert reconciled(tail).day_state.failed == {TOTAL}
    assert reconciled(tail, snapshot(2, TOTAL, full_day({}))).day_state.failed == frozenset()


def test_a_failed_full_day_still_counts_after_a_later_partial_day() -> None:
    failed = replace(snapshot(1, TOTAL, {}), outcome=Outcome.FAILED)
    assert reconciled(failed, snapshot(2, TOTAL, {}, start=23)).day_state.failed == {TOTAL}


def test_an_empty_response_of_a_queue_is_evaluated_again_once_the_total_needs_another_window() -> None:
    short = dict.fromkeys(range(23), (1, "0.1"))
    earlier = reconciled(snapshot(1, TOTAL, short), snapshot(2, A, short), snapshot(3, B, {}))
    inputs = earlier.inputs.with_snapshots([snapshot(4, TOTAL, {23: (5, "0.5")}, start=23)])
    added = add_snapshots(earlier, inputs)
    assert added.day_state == reconcile(inputs).day_state
    assert {series for series, _ in added.day_state.outstanding} == {A, B}


def test_a_correction_during_over_allocation_has_the_values_of_the_api() -> None:
    total, name = snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, A, full_day({8: (10, "0.5")}))
    lower = snapshot(3, TOTAL, full_day({8: (9, "0.4")}))
    then = snapshot(4, A, full_day({8: (9, "0.4")}))
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


def test_a_deleted_fact_of_an_excluded_series_has_a_revision() -> None:
    both = (snapshot(1, TOTAL, full_day({8: (10, "0.5")})), snapshot(2, A, full_day({8: (10, "0.5")})))
    revisions = diff(reconciled(*both), reconciled(*both, ignored=["A"])).revisions
    assert [(row.series, row.before, row.cause) for row in revisions] == [
        (A, Measures(10, Decimal("0.5")), ChangeReason.REATTRIBUTION)
    ]


def test_an_empty_response_of_a_queue_does_not_cover_more_than_the_total() -> None:
    total, tail = snapshot(1, TOTAL, {8: (1, "0.1"), 22: (1, "0.1")}), snapshot(2, TOTAL, {23: (5, "0.5")}, start=23)
    day_state = reconciled(total, tail, snapshot(3, A, {8: (1, "0.1"), 22: (1, "0.1")}), snapshot(4, B, {})).day_state
    assert day_state.outstanding == ((A, hour(23)), (B, hour(23)))


def test_only_two_empty_responses_in_a_row_make_a_stored_hour_zero() -> None:
    spend = full_day({8: (10, "0.5")})
    once_each = [snapshot(1, TOTAL, spend), snapshot(2, TOTAL, {}), snapshot(3, TOTAL, spend), snapshot(4, TOTAL, {})]
    assert rows(reconciled(*once_each), 8)["total"] == (10, "0.5")
    assert rows(reconciled(*once_each, snapshot(5, TOTAL, {})), 8) == {"total": (0, "0")}


def test_hours_that_a_retired_queue_lacks_are_not_requested_any_more() -> None:
    snapshots = (snapshot(1, TOTAL, full_day({22: (5, "0.5")})), snapshot(2, A, {8: (0, "0")}))
    day = DaySnapshots(DAY, snapshots=snapshots)
    assert reconcile(day).day_state.outstanding == ((A, hour(22)),)
    assert reconcile(replace(day, retired=frozenset({A}))).day_state.outstanding == ()
