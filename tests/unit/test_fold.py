"""Readings of a day in, facts, rest and revisions out: as literals, and as what must hold of any readings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from etl.records import (
    HOUR,
    TOTAL,
    ZERO,
    Cause,
    Cut,
    Fact,
    Filter,
    Outcome,
    Reading,
    Record,
    Rejection,
    Value,
    Verdict,
    Window,
    app,
    day_start,
    ip,
    queue,
)
from etl.transform.fold import Book, Folded, diff, fold, nothing

DAY = date(2026, 11, 2)
REST = Filter(Cut.QUEUE, None)
NEXT_NIGHT = datetime(2026, 11, 3, 2, tzinfo=UTC)

Said = Mapping[int, tuple[int, str]]
"""Hour of the day: tasks and dollars."""


def hour(n: int) -> datetime:
    return day_start(DAY) + n * HOUR


def reading(number: int, filter: Filter, said: Said, asked_at: datetime = NEXT_NIGHT, start: int = 0) -> Reading:
    window = replace(Window.whole_day("default", filter, DAY), start=hour(start))
    records = tuple(Record(hour(n), volume, Decimal(money)) for n, (volume, money) in sorted(said.items()))
    return Reading(number, window, asked_at + timedelta(seconds=number), Outcome.GOOD, records)


def whole(said: Said) -> Said:
    """A day's 24 records, idle hours as zeros."""
    return {n: said.get(n, (0, "0")) for n in range(24)}


def folded(*readings: Reading, doubted: Sequence[str] = (), ignored: Sequence[str] = ()) -> Folded:
    return fold(Book(DAY, readings=readings, doubted=frozenset(map(queue, doubted)), ignored=frozenset(map(queue, ignored))))


def rows(fold: Folded, n: int) -> dict[str, tuple[int, str]]:
    """The hour's facts, readably."""
    names = {TOTAL: "total", REST: "rest"}
    return {
        names.get(filter, filter.member or ""): (fact.volume, f"{fact.money:f}")
        for (filter, hour_start), fact in fold.facts.items()
        if hour_start == hour(n)
    }


A, B = queue("A"), queue("B")


# ---------------------------------------------------------------- one hour


def test_queues_that_explain_the_total_leave_no_rest() -> None:
    day = folded(reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, A, whole({8: (10, "0.5")})))
    assert rows(day, 8) == {"total": (10, "0.5"), "A": (10, "0.5")}
    assert day.verdict.explained


def test_what_no_queue_explains_is_the_rest() -> None:
    day = folded(reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, A, whole({8: (7, "0.4")})))
    assert rows(day, 8) == {"total": (10, "0.5"), "A": (7, "0.4"), "rest": (3, "0.1")}
    assert not day.verdict.explained
    assert day.verdict.rest == Value(3, Decimal("0.1"))


def test_a_total_alone_is_all_rest() -> None:
    day = folded(reading(1, TOTAL, whole({8: (10, "0.5")})))
    assert rows(day, 8) == {"total": (10, "0.5"), "rest": (10, "0.5")}


def test_an_idle_hour_keeps_the_totals_zero_and_nothing_else() -> None:
    day = folded(reading(1, TOTAL, whole({})), reading(2, A, whole({})))
    assert rows(day, 8) == {"total": (0, "0")}


def test_a_crumb_of_money_within_rounding_explains_and_stays_in_the_rest() -> None:
    day = folded(
        reading(1, TOTAL, whole({8: (10, "0.500002")})),
        reading(2, A, whole({8: (6, "0.3")})),
        reading(3, B, whole({8: (4, "0.2")})),
    )
    assert rows(day, 8)["rest"] == (0, "0.000002")
    assert day.verdict.explained


def test_a_crumb_beyond_rounding_does_not_explain() -> None:
    day = folded(reading(1, TOTAL, whole({8: (10, "0.500003")})), reading(2, A, whole({8: (10, "0.5")})))
    assert not day.verdict.explained


def test_queues_beyond_the_total_are_not_believed_in_that_hour_alone() -> None:
    day = folded(reading(1, TOTAL, whole({8: (10, "0.5"), 9: (4, "0.1")})), reading(2, A, whole({8: (11, "0.5"), 9: (4, "0.1")})))
    assert rows(day, 8) == {"total": (10, "0.5"), "rest": (10, "0.5")}
    assert rows(day, 9) == {"total": (4, "0.1"), "A": (4, "0.1")}
    assert day.verdict.contradicted
    assert day.verdict.rest == Value(10, Decimal("0.5"))


def test_a_refund_in_the_total_is_kept_with_its_sign() -> None:
    day = folded(reading(1, TOTAL, whole({8: (0, "-0.25")})))
    assert rows(day, 8) == {"total": (0, "-0.25"), "rest": (0, "-0.25")}
    assert not day.verdict.contradicted


def test_a_queue_without_a_total_beside_it_is_not_used() -> None:
    assert folded(reading(1, A, whole({8: (10, "0.5")}))).facts == {}


def test_a_doubted_queue_explains_nothing() -> None:
    day = folded(reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, A, whole({8: (10, "0.5")})), doubted=["A"])
    assert rows(day, 8) == {"total": (10, "0.5"), "rest": (10, "0.5")}


def test_an_ignored_name_is_no_queue_at_all() -> None:
    day = folded(reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, A, whole({8: (10, "0.5")})), ignored=["A"])
    assert rows(day, 8) == {"total": (10, "0.5"), "rest": (10, "0.5")}
    assert A not in day.verdict.asked


# ---------------------------------------------------------------- cuts


SEVEN, HERE = app("7"), ip("192.0.2.1")


def test_every_cut_of_which_something_is_held_sums_to_the_total_by_itself() -> None:
    day = folded(
        reading(1, TOTAL, whole({8: (10, "0.5")})),
        reading(2, A, whole({8: (10, "0.5")})),
        reading(3, SEVEN, whole({8: (4, "0.2")})),
    )
    assert {filter: fact.volume for (filter, at), fact in day.facts.items() if at == hour(8)} == {
        TOTAL: 10, A: 10, SEVEN: 4, Filter(Cut.APP, None): 6,
    }  # fmt: skip
    assert day.verdict.explained
    assert day.verdict.split(Cut.APP).rest == Value(6, Decimal("0.3"))
    assert Cut.IP not in day.verdict.splits


def test_an_idle_app_is_held_and_its_cut_is_all_rest() -> None:
    day = folded(reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, HERE, whole({})))
    assert day.facts[Filter(Cut.IP, None), hour(8)].volume == 10
    assert day.verdict.asked.keys() == {TOTAL, HERE}


def test_members_that_exceed_the_total_are_kept_with_what_they_claim_together() -> None:
    day = folded(
        reading(1, TOTAL, whole({8: (10, "0.5")})),
        reading(2, A, whole({8: (10, "0.5")})),
        reading(3, SEVEN, whole({8: (8, "0.4")})),
        reading(4, app("8"), whole({8: (8, "0.4")})),
    )
    assert day.verdict.contradicted == {Cut.APP}
    [claim] = day.contradictions.values()
    assert claim == Fact(Filter(Cut.APP, None), hour(8), 16, Decimal("0.8"), 4)
    assert day.facts[Filter(Cut.APP, None), hour(8)].volume == 10
    assert day.facts[A, hour(8)].volume == 10


def test_what_is_held_of_an_app_that_ended_stays_and_asks_for_nothing() -> None:
    refused = replace(reading(3, SEVEN, {}), outcome=Outcome.REFUSED, code="ERROR_ACCESS_DENIED")
    readings = (reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, SEVEN, whole({8: (4, "0.2")})), refused)
    day = fold(Book(DAY, readings=readings, ended=frozenset([SEVEN])))
    assert day.facts[SEVEN, hour(8)].volume == 4
    assert (day.verdict.failed, day.verdict.active) == (frozenset(), frozenset())
    assert fold(Book(DAY, readings=readings)).verdict.failed == {SEVEN}


# ---------------------------------------------------------------- which hours an answer speaks for


def test_a_missing_hour_inside_the_span_is_zero() -> None:
    day = folded(reading(1, TOTAL, {8: (10, "0.5"), 10: (1, "0.1")}))
    assert rows(day, 9) == {"total": (0, "0")}


def test_hours_before_the_first_record_are_idle() -> None:
    assert rows(folded(reading(1, TOTAL, {8: (10, "0.5")})), 7) == {"total": (0, "0")}


def test_hours_after_the_last_record_are_owed_and_absent() -> None:
    day = folded(reading(1, TOTAL, {8: (10, "0.5")}))
    assert rows(day, 9) == {}
    assert day.verdict.owed == ((TOTAL, hour(9)),)


def test_an_answer_without_records_says_that_the_ended_hours_are_idle() -> None:
    day = fold(Book(DAY, reaches_end=1, readings=(reading(1, TOTAL, {}),)))
    assert len(day.facts) == 24
    assert day.verdict.owed == ()


def test_where_the_last_hour_was_never_seen_in_an_answer_one_without_records_does_not_speak_for_it() -> None:
    day = folded(reading(1, TOTAL, {}))
    assert len(day.facts) == 23
    assert day.verdict.owed == ((TOTAL, hour(23)),)


def test_a_tail_that_starts_later_proves_the_owed_hours_idle() -> None:
    day = folded(reading(1, TOTAL, {8: (10, "0.5")}), reading(2, TOTAL, {}, start=9))
    assert rows(day, 9) == {"total": (0, "0")}
    assert day.verdict.owed == ()


def test_a_vanished_hour_inside_the_span_becomes_zero() -> None:
    day = folded(reading(1, TOTAL, whole({9: (5, "0.2")})), reading(2, TOTAL, {8: (1, "0.1"), 10: (1, "0.1")}))
    assert rows(day, 9) == {"total": (0, "0")}


def test_a_held_hour_outside_the_span_stays() -> None:
    day = folded(reading(1, TOTAL, whole({23: (5, "0.2"), 2: (1, "0.1")})), reading(2, TOTAL, {8: (1, "0.1"), 10: (1, "0.1")}))
    assert rows(day, 23)["total"] == (5, "0.2")
    assert rows(day, 2)["total"] == (1, "0.1")


def test_an_empty_answer_for_a_day_that_held_spend_is_believed_the_second_time() -> None:
    held, empty = reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, TOTAL, {})
    assert rows(folded(held, empty), 8)["total"] == (10, "0.5")
    assert rows(folded(held, empty, reading(3, TOTAL, {})), 8)["total"] == (0, "0")


def test_a_refused_record_leaves_its_hour_unsaid() -> None:
    spoiled = replace(
        reading(1, TOTAL, {8: (10, "0.5"), 10: (1, "0.1")}),
        outcome=Outcome.PARTIAL,
        rejections=(Rejection("negative volume", "{}", hour(9)),),
    )
    assert rows(folded(spoiled), 9) == {}
    assert folded(spoiled).verdict.is_failed


def test_the_later_request_wins_whatever_the_order_of_commits() -> None:
    early, late = reading(2, TOTAL, whole({8: (1, "0.1")})), reading(1, TOTAL, whole({8: (2, "0.2")}), NEXT_NIGHT + HOUR)
    assert rows(folded(late, early), 8)["total"] == (2, "0.2")
    assert rows(folded(early, late), 8)["total"] == (2, "0.2")


def test_a_failed_reading_changes_no_fact() -> None:
    held = reading(1, TOTAL, whole({8: (10, "0.5")}))
    broken = replace(reading(2, TOTAL, {}), outcome=Outcome.BROKEN)
    assert folded(held, broken).facts == folded(held).facts
    assert folded(held, broken).verdict.is_failed


def test_a_grid_beside_the_hour_books_its_hours_on_the_day_asked_for() -> None:
    quarter_to = [Record(hour(n) - timedelta(minutes=15), 1, Decimal("0.1")) for n in range(24)]
    total = replace(reading(1, TOTAL, {}), records=tuple(quarter_to))
    day = fold(Book(DAY, grid=-900, readings=(total,)))
    assert day.verdict.total == Value(24, Decimal("2.4"))
    assert day.verdict.owed == ()


# ---------------------------------------------------------------- the running day


def test_only_hours_that_had_ended_decide_whether_a_running_day_is_explained() -> None:
    noon = hour(12) + timedelta(minutes=30)
    day = folded(
        reading(1, TOTAL, dict.fromkeys(range(13), (10, "0.5")), noon),
        reading(2, A, {**dict.fromkeys(range(12), (10, "0.5")), 12: (12, "0.6")}, noon),
    )
    assert day.verdict.explained
    assert not day.verdict.contradicted
    assert rows(day, 12) == {"total": (10, "0.5"), "rest": (10, "0.5")}
    assert not day.verdict.closed


def test_a_day_is_closed_ten_minutes_after_its_end() -> None:
    just_before, just_after = hour(24) + timedelta(minutes=9, seconds=58), hour(24) + timedelta(minutes=10)
    assert not folded(reading(1, TOTAL, whole({}), just_before)).verdict.closed
    assert folded(reading(1, TOTAL, whole({}), just_after)).verdict.closed


# ---------------------------------------------------------------- what a commit writes


def test_the_first_reading_of_an_hour_revises_nothing() -> None:
    changes = diff(nothing(DAY), folded(reading(1, TOTAL, whole({8: (10, "0.5")}))))
    assert changes.revisions == ()
    assert len(changes.facts) == 25  # 24 hours of the total, one of the rest


def test_the_same_answer_again_writes_nothing() -> None:
    before = folded(reading(1, TOTAL, whole({8: (10, "0.5")})))
    after = folded(reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, TOTAL, whole({8: (10, "0.5")})))
    assert diff(before, after).facts == ()
    assert diff(before, after).revisions == ()


def test_a_queue_read_after_its_total_turns_the_rest_into_its_own_money() -> None:
    total = reading(1, TOTAL, whole({8: (10, "0.5")}))
    changes = diff(folded(total), folded(total, reading(2, A, whole({8: (10, "0.5")}))))
    assert {(fact.filter, fact.volume) for fact in changes.facts} == {(A, 10), (REST, 0)}
    assert [(row.filter, row.cause) for row in changes.revisions] == [(REST, Cause.ATTRIBUTION)]


def test_a_closed_hour_that_changes_is_a_revision_of_the_source() -> None:
    first = reading(1, TOTAL, whole({8: (10, "0.5")}))
    changes = diff(folded(first), folded(first, reading(2, TOTAL, whole({8: (11, "0.6")}))))
    revision = next(row for row in changes.revisions if row.filter == TOTAL)
    assert (revision.before, revision.after) == (Value(10, Decimal("0.5")), Value(11, Decimal("0.6")))
    assert (revision.cause, revision.reading) == (Cause.SOURCE, 2)


def test_a_queues_closed_zero_that_becomes_spend_is_a_revision_though_no_fact_was_kept() -> None:
    total, idle = reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, A, whole({}))
    changes = diff(folded(total, idle), folded(total, idle, reading(3, A, whole({8: (10, "0.5")}))))
    assert (A, ZERO, Cause.SOURCE) in [(row.filter, row.before, row.cause) for row in changes.revisions]


def test_an_hour_that_had_not_ended_grows_and_is_not_a_correction() -> None:
    early = reading(1, TOTAL, {8: (10, "0.5")}, hour(8) + timedelta(minutes=30))
    changes = diff(folded(early), folded(early, reading(2, TOTAL, whole({8: (20, "1")}))))
    assert {row.cause for row in changes.revisions if row.filter == TOTAL} == {Cause.GROWTH}


def test_a_name_that_comes_to_be_believed_changes_attribution_only() -> None:
    both = (reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, A, whole({8: (10, "0.5")})))
    changes = diff(folded(*both, doubted=["A"]), folded(*both))
    assert {row.cause for row in changes.revisions} == {Cause.ATTRIBUTION}


# ---------------------------------------------------------------- of any readings

values = st.tuples(st.integers(0, 50), st.decimals("-0.5", "2", places=6))
answers = st.dictionaries(st.integers(0, 23), values, max_size=24)
filters = st.sampled_from([TOTAL, TOTAL, A, B, queue("C")])
asked = st.integers(0, 96).map(lambda n: day_start(DAY) + n * HOUR / 2)


@st.composite
def any_readings(draw: st.DrawFn) -> list[Reading]:
    """Totals and queues at any time, short and long, that need not agree with each other at all."""
    drawn = draw(st.lists(st.tuples(filters, answers, asked), max_size=8))
    return [
        reading(number, filter, {n: (volume, str(money)) for n, (volume, money) in said.items() if hour(n) <= at}, at)
        for number, (filter, said, at) in enumerate(drawn, 1)
    ]


def summed(facts: Mapping[tuple[Filter, datetime], Fact], at: datetime, of_total: bool) -> Value:
    chosen = [fact for (filter, start), fact in facts.items() if start == at and (filter == TOTAL) is of_total]
    return Value(sum(fact.volume for fact in chosen), sum((fact.money for fact in chosen), Decimal(0)))


@given(any_readings())
def test_whatever_is_read_every_hours_queues_and_rest_sum_to_exactly_its_total(readings: list[Reading]) -> None:
    facts = folded(*readings).facts
    for at in {start for _, start in facts}:
        assert summed(facts, at, of_total=False) == summed(facts, at, of_total=True)


@given(any_readings(), st.randoms(use_true_random=False))
def test_the_order_in_which_readings_are_held_changes_no_fact(readings: list[Reading], random: st.randoms) -> None:  # type: ignore[valid-type]
    shuffled = list(readings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert folded(*shuffled).facts == folded(*readings).facts


@given(any_readings(), st.integers(0, 8))
def test_the_changes_of_two_commits_lead_where_one_commit_leads(readings: list[Reading], cut: int) -> None:
    held: dict[tuple[Filter, datetime], Fact] = {}
    earlier = nothing(DAY)
    for part in (readings[:cut], readings):
        later = folded(*part)
        for fact in diff(earlier, later).facts:
            held[fact.filter, fact.hour_start] = fact
            if fact.leaves_nothing:
                del held[fact.filter, fact.hour_start]
        earlier = later
    values = {key: (fact.volume, fact.money) for key, fact in held.items()}
    assert values == {key: (fact.volume, fact.money) for key, fact in folded(*readings).facts.items()}


@given(any_readings(), st.integers(0, 8))
def test_every_fact_that_changes_or_goes_leaves_a_revision_of_what_it_was(readings: list[Reading], cut: int) -> None:
    before, after = folded(*readings[:cut]), folded(*readings)
    revised = {(row.filter, row.hour_start): row for row in diff(before, after).revisions}
    for key, was in before.facts.items():
        now = after.facts.get(key)
        if now is None or (now.volume, now.money) != (was.volume, was.money):
            if was.leaves_nothing or (now is None and (was.volume, was.money) == ZERO):
                continue
            assert revised[key].before == (was.volume, was.money)


@given(any_readings(), st.integers(0, 8))
def test_every_number_the_source_changes_is_a_revision_with_both_numbers(readings: list[Reading], cut: int) -> None:
    before, after = folded(*readings[:cut]), folded(*readings)
    revised = {(row.filter, row.hour_start): row for row in diff(before, after).revisions}
    for filter, hours in before.sources.items():
        for at, earlier in hours.items():
            later = after.sources[filter][at]
            if later.value != earlier.value:
                row = revised[filter, at]
                assert (row.before, row.after) == (earlier.value, later.value)
                assert row.cause is (Cause.SOURCE if earlier.had_ended(at) else Cause.GROWTH)


@given(any_readings())
def test_what_a_day_is_said_to_leave_unattributed_is_the_sum_of_its_hours(readings: list[Reading]) -> None:
    day = folded(*readings)
    rests = [fact for fact in day.facts.values() if fact.filter == REST]
    assert day.verdict.rest == (sum(fact.volume for fact in rests), sum((fact.money for fact in rests), Decimal(0)))


@given(any_readings())
def test_a_queue_never_holds_money_it_did_not_answer(readings: list[Reading]) -> None:
    for (filter, at), fact in folded(*readings).facts.items():
        if not filter.is_rest:
            said = [
                record.value for one in readings if one.window.filter == filter for record in one.records if record.hour_start == at
            ]
            assert (fact.volume, fact.money) in [*said, ZERO]


def test_a_day_of_which_nothing_was_read_has_no_verdict_to_go_by() -> None:
    assert nothing(DAY).verdict == Verdict(DAY)
    assert not nothing(DAY).verdict.explained


# ---------------------------------------------------------------- hours read again


def test_spend_that_a_later_answer_does_not_speak_for_is_owed_again() -> None:
    first, tail = reading(1, TOTAL, dict.fromkeys(range(23), (1, "0.1"))), reading(2, TOTAL, {23: (5, "0.5")}, start=23)
    assert folded(first, tail).verdict.owed == ()
    again = reading(3, TOTAL, dict.fromkeys(range(23), (1, "0.1")), NEXT_NIGHT + HOUR)
    assert folded(first, tail, again).verdict.owed == ((TOTAL, hour(23)),)


def test_a_day_that_owes_an_hour_is_not_read_to_its_end() -> None:
    short = folded(reading(1, TOTAL, {8: (10, "0.5")})).verdict
    assert not short.read_since(NEXT_NIGHT)
    assert folded(reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, A, whole({8: (10, "0.5")}))).verdict.read_since(NEXT_NIGHT)


def test_a_tail_that_starts_later_proves_idle_even_an_hour_that_held_spend() -> None:
    held = reading(1, TOTAL, whole({22: (5, "0.5"), 23: (1, "0.1")}))
    tail = reading(2, TOTAL, {23: (1, "0.1")}, start=22)
    assert rows(folded(held, tail), 22)["total"] == (0, "0")


def test_a_tail_does_not_make_the_whole_day_read_anew() -> None:
    total = reading(1, TOTAL, {8: (10, "0.5")})
    tail = reading(2, TOTAL, {}, NEXT_NIGHT + 24 * HOUR, start=9)
    assert folded(total, tail).verdict.total_asked == total.asked_at


def test_a_failed_tail_is_forgiven_when_a_later_whole_answer_covers_its_hours() -> None:
    tail = replace(reading(1, TOTAL, {}, start=23), outcome=Outcome.BROKEN)
    assert folded(tail).verdict.failed == {TOTAL}
    assert folded(tail, reading(2, TOTAL, whole({}))).verdict.failed == frozenset()


def test_a_whole_day_that_failed_is_not_forgiven_by_a_later_tail() -> None:
    failed = replace(reading(1, TOTAL, {}), outcome=Outcome.BROKEN)
    assert folded(failed, reading(2, TOTAL, {}, start=23)).verdict.failed == {TOTAL}


def test_a_correction_seen_while_queues_contradict_the_total_keeps_the_sources_numbers() -> None:
    total, name = reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, A, whole({8: (10, "0.5")}))
    lower = reading(3, TOTAL, whole({8: (9, "0.4")}))
    then = reading(4, A, whole({8: (9, "0.4")}))
    revision = next(row for row in diff(folded(total, name, lower), folded(total, name, lower, then)).revisions if row.filter == A)
    assert (revision.before, revision.after, revision.cause) == (Value(10, Decimal("0.5")), Value(9, Decimal("0.4")), Cause.SOURCE)


def test_a_fact_that_goes_leaves_a_revision_though_its_filter_is_now_ignored() -> None:
    both = (reading(1, TOTAL, whole({8: (10, "0.5")})), reading(2, A, whole({8: (10, "0.5")})))
    revisions = diff(folded(*both), folded(*both, ignored=["A"])).revisions
    assert [(row.filter, row.before, row.cause) for row in revisions] == [(A, Value(10, Decimal("0.5")), Cause.ATTRIBUTION)]


def test_an_empty_answer_does_not_reach_where_the_totals_own_did_not() -> None:
    total, tail = reading(1, TOTAL, {8: (1, "0.1"), 22: (1, "0.1")}), reading(2, TOTAL, {23: (5, "0.5")}, start=23)
    verdict = folded(total, tail, reading(3, A, {8: (1, "0.1"), 22: (1, "0.1")}), reading(4, B, {})).verdict
    assert verdict.owed == ((A, hour(23)), (B, hour(23)))
