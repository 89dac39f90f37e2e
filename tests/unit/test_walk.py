"""Whole runs of the walk as literals: what was asked, in order. No thread, no clock, no database, no HTTP."""

from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from etl.extract import walk
from etl.extract.walk import NO_SUCH, Ask, Done, Held, Names, Wait, Why, Wishes
from etl.extract.walk.names import judged, lesson
from etl.records import (
    DAY,
    HOUR,
    TOTAL,
    Belief,
    Cut,
    Effect,
    Filter,
    Lesson,
    Outcome,
    Reading,
    Record,
    Spell,
    Unknown,
    Value,
    Verdict,
    Window,
    app,
    day_start,
    ip,
    queue,
)
from etl.transform.fold import Book, fold

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

Spend = Mapping[int, int]
"""Hour of the day: tasks. A task costs a thousandth of a dollar, unless the service has another price for its queue."""


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def spelled(filter: Filter) -> str | None:
    signs = {Cut.APP: "#", Cut.IP: "@"}
    return None if filter.member is None else signs.get(filter.cut, "") + filter.member


STRANGE = {TOTAL: "*", **dict(zip(NO_SUCH.values(), ("?", "#?", "@?"), strict=True))}


class Service:
    """Scripted answers: spend by (days ago, queue), totals their sum; ``errors`` by (days ago, queue or None).

    An app is spelled ``#7`` and an address ``@192.0.2.1``; what they spend is part of the queues'.
    """

    def __init__(self, spend: Mapping[tuple[int, str], Spend], unknown: str = "error", stranger: str = "zeros") -> None:
        self.spend = dict(spend)
        self.unknown = unknown
        self.stranger = stranger
        self.errors: dict[tuple[int, str | None], tuple[str, Effect | None]] = {}
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

    def answer(self, window: Window, number: int, asked_at: datetime) -> Reading:
        days_ago, name = (TODAY - window.day).days, spelled(window.filter)
        reading = Reading(number, window, asked_at, Outcome.GOOD)
        if (days_ago, name) in self.errors:
            code, effect = self.errors[days_ago, name]
            return replace(reading, outcome=Outcome.REFUSED if effect else Outcome.BROKEN, code=code, effect=effect)
        if name is not None and name not in self.names() and name not in {one for _, one in self.spend}:
            gives, code, effect = self.unknown, "ERROR_QUEUE", Effect.WINDOW
            if name[0] in "#@":
                gives, code, effect = self.stranger, "ERROR_ACCESS_DENIED", Effect.FILTER
            if gives == "error":
                return replace(reading, outcome=Outcome.REFUSED, code=code, effect=effect)
            name = None if gives == "totals" else name
        first = (window.start - day_start(window.day)) // HOUR
        last = self.last_hour.get((days_ago, name), 23) if first == 0 else 23
        hours = [n for n in range(first, last + 1) if day_start(window.day) + n * HOUR <= asked_at]
        at = day_start(window.day)
        records = (Record(at + n * HOUR, self.tasks(days_ago, name, n), self.money(days_ago, name, n)) for n in hours)
        return replace(reading, records=tuple(records))


class Run:
    """Plays a walk against a service, one answer at a time, and keeps what was asked."""

    def __init__(
        self, wishes: Wishes, service: Service, after: "Run | None" = None, now: datetime = NOW, but: Set[date] = frozenset()
    ) -> None:
        self.books: dict[date, Book] = {}
        if after is not None:
            self.books = {day: book for day, book in after.books.items() if day not in but}
            now = max(now, after.now)
        self.now: datetime = now + timedelta(minutes=20)
        self.state = walk.begin(wishes, Held() if after is None else after.held(but))
        self.service = service
        self.asked: list[Window] = []
        self.in_the_air: list[Window] = []
        self.number = sum(len(book.readings) for book in self.books.values())

    def go(self, pick: Callable[[list[Window]], int] = lambda _: 0) -> Why:
        for _ in range(100_000):
            self.state, step = walk.next(self.state, self.state.wishes.concurrency - len(self.in_the_air))
            if isinstance(step, Done):
                assert not self.in_the_air
                return step.why
            if isinstance(step, Ask):
                self.asked += step.windows
                self.in_the_air += step.windows
                if len(self.in_the_air) < self.state.wishes.concurrency:
                    continue
            else:
                assert isinstance(step, Wait)
            assert self.in_the_air, "the walk waits for an answer that nobody asked for"
            self.land(self.in_the_air.pop(pick(self.in_the_air)))
        raise AssertionError("the walk does not end")

    def land(self, window: Window) -> None:
        self.number += 1
        self.now += timedelta(milliseconds=1)
        reading = self.service.answer(window, self.number, self.now)
        book = self.books.get(window.day, Book(window.day))
        self.state = walk.judge(self.state, reading, fold(book).verdict)
        book = self.books[window.day] = self.in_the_light(book.with_readings([reading]))
        self.state = walk.tell(self.state, reading, fold(book).verdict)
        for day, other in self.books.items():
            seen = self.in_the_light(other)
            if seen != other:
                self.books[day] = seen
                self.state = walk.see_anew(self.state, fold(seen).verdict)

    def in_the_light(self, book: Book) -> Book:
        """The book as it is seen in the light of what is thought of names now."""

        def thought(belief: Belief) -> set[Filter]:
            return {filter for filter, held in self.state.names.beliefs.items() if held is belief}

        ignored = frozenset(thought(Belief.SET_ASIDE) | {*NO_SUCH.values()})
        names, asked = self.state.names, {reading.window.filter for reading in book.readings} - {TOTAL}
        booked = thought(Belief.BELIEVED) | thought(Belief.ENDED)
        doubted = frozenset(filter for filter in asked - booked if names.doubts(filter.cut))
        return replace(book, ignored=ignored, doubted=doubted, ended=frozenset(thought(Belief.ENDED)))

    @property
    def verdicts(self) -> dict[date, Verdict]:
        return {day: fold(book).verdict for day, book in self.books.items()}

    @property
    def said(self) -> list[str]:
        """What was asked, readably: days ago, name or ``*`` for the total, and the hour of a tail; ``?`` cannot exist."""
        words = []
        for window in self.asked:
            name = STRANGE.get(window.filter, spelled(window.filter))
            tail = "" if window.start == day_start(window.day) else f"@{window.start.hour}"
            words.append(f"{(TODAY - window.day).days}{name}{tail}")
        return words

    def held(self, but: Set[date] = frozenset()) -> Held:
        """What a warehouse would hold after this run."""
        wishes, verdicts = self.state.wishes, {day: verdict for day, verdict in self.verdicts.items() if day not in but}
        settled = {day: verdict for day, verdict in verdicts.items() if day not in self.state.open}
        final = {day for day, verdict in settled.items() if not verdict.is_failed and verdict.read_since(wishes.final_at(day))}
        return Held(
            days=verdicts,
            final=frozenset(final),
            spells=self.state.names.spells,
            beliefs=self.state.names.beliefs,
            lessons=self.state.names.lessons,
        )


def wishes(**others: object) -> Wishes:
    plain = Wishes("default", TODAY, empty_days=3, catalogue=("A", "B", "C"), concurrency=1)
    return replace(plain, **others)  # type: ignore[arg-type]  # a test's own words


def play(service: Service, after: Run | None = None, now: datetime = NOW, but: Set[date] = frozenset(), **others: object) -> Run:
    run = Run(wishes(**others), service, after, now, but)
    assert run.go() is Why.DONE
    return run


BUSY = {(n, "A"): {8: 10, 9: 5} for n in range(6)}


# ---------------------------------------------------------------- the first run


def test_the_first_request_is_a_total_the_second_a_queue_that_cannot_exist() -> None:
    assert play(Service(BUSY)).said[:2] == ["0*", "0?"]


def test_the_first_two_requests_go_alone_however_many_may_go_at_once() -> None:
    run = Run(wishes(concurrency=8), Service(BUSY))
    run.state, step = walk.next(run.state, 8)
    assert isinstance(step, Ask)
    assert len(step.windows) == 1
    assert isinstance(walk.next(run.state, 7)[1], Wait)
    run.land(step.windows[0])
    run.state, step = walk.next(run.state, 8)
    assert isinstance(step, Ask)
    assert [window.filter.member for window in step.windows] == [NO_SUCH[Cut.QUEUE].member]
    assert isinstance(walk.next(run.state, 7)[1], Wait)


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
    assert play(Service(spend, unknown="zeros"), named=(queue("Mine"),)).said[:5] == ["0*", "0?", "1*", "1Mine", "0Mine"]


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
    assert not first.verdicts[ago(4)].explained
    assert play(Service(spend, unknown="zeros"), first).said == ["0*", "1*", "2*", "3*"]
    assert play(Service(spend, unknown="zeros"), first, named=(queue("New"),)).said == ["0*", "1*", "2*", "3*", "4New"]


def test_a_crash_between_total_and_queue_repeats_neither() -> None:
    first = Run(wishes(), Service(BUSY))
    while first.said[-1:] != ["5A"]:  # asked, but its answer never landed
        first.state, step = walk.next(first.state, 1)
        if isinstance(step, Ask):
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
    assert run.state.names.beliefs[queue("A")] is Belief.SET_ASIDE
    assert not [said for said in run.said if said.endswith("A") and said != "1A"]
    assert not [said for said in play(Service(spend), run).said if said.endswith("A")]


def test_names_already_used_up_are_not_hunted_again_on_the_same_day() -> None:
    spend = {(1, "Nowhere"): {8: 1}}
    run = play(Service(spend, unknown="zeros"), catalogue=("A", "B"))
    assert [said for said in run.said if said.startswith("1")] == ["1*", "1?", "1A", "1B"]


def test_where_unknown_names_give_totals_a_name_that_repeats_the_total_is_doubted() -> None:
    run = play(Service(BUSY, unknown="totals"), named=(queue("Typo"),), catalogue=())
    assert run.state.names.lessons[Cut.QUEUE].gives is Unknown.TOTALS
    assert run.state.names.beliefs[queue("Typo")] is Belief.DOUBTED
    assert all(not verdict.explained for verdict in run.verdicts.values() if verdict.has_spend)


def test_where_unknown_names_give_totals_one_different_answer_makes_a_name_believed() -> None:
    spend = {(n, name): {8: 1} for n in range(3) for name in ("A", "B")}
    run = play(Service(spend, unknown="totals"), catalogue=("A", "B"))
    assert {run.state.names.beliefs[queue("A")], run.state.names.beliefs[queue("B")]} == {Belief.BELIEVED}


def test_a_name_is_not_believed_for_differing_from_a_total_that_is_old() -> None:
    spend = {(n, name): {8: 1} for n in range(3) for name in ("A", "B")}
    first = play(Service(spend, unknown="totals"), catalogue=(), totals_only=True)
    state = walk.begin(wishes(), replace(first.held(), lessons={Cut.QUEUE: Lesson(Unknown.TOTALS)}))
    stale = Reading(99, Window.whole_day("default", queue("A"), ago(2)), NOW + HOUR, Outcome.GOOD)
    assert walk.judge(state, stale, first.verdicts[ago(2)]).names.beliefs[queue("A")] is Belief.DOUBTED
    fresh = replace(stale, asked_at=NOW + timedelta(seconds=30))
    assert walk.judge(state, fresh, first.verdicts[ago(2)]).names.beliefs[queue("A")] is Belief.BELIEVED


def test_a_name_the_user_vouches_for_is_believed_at_once() -> None:
    run = play(Service(BUSY, unknown="totals"), trusted=(queue("A"),), catalogue=())
    assert run.verdicts[ago(1)].explained


def test_on_the_running_day_no_name_is_hunted() -> None:
    run = play(Service({(0, "B"): {3: 1}}, unknown="zeros"), empty_days=1)
    assert [said for said in run.said if said.startswith("0")] == ["0*", "0?"]


def test_a_hunt_begins_with_the_queue_whose_known_price_is_nearest_to_the_rests() -> None:
    names = ("A", "B", "C", "D")
    spend = {(1, name): {8: 10} for name in names} | {(n, "D"): {8: 10} for n in range(20, 23)}
    service = Service(spend, unknown="zeros")
    service.prices = {"A": 1, "B": 2, "C": 3, "D": 4}
    run = play(service, catalogue=names, empty_days=30)
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
    run = play(Service(BY_APP), named=(app("7"),))
    assert run.said[:3] == ["0*", "0?", "0#?"]
    assert of(run, "#") == ["0#?", "0#7", "1#7", "2#7", "3#7", "4#7", "5#7"]


def test_no_app_and_no_address_is_asked_that_the_user_did_not_list() -> None:
    first = play(Service(BY_APP), named=(app("7"),))
    again = play(Service(BY_APP), first, but={ago(5)})
    assert of(again, "#") == []
    assert "5A" in again.said


def test_a_history_held_owes_an_app_that_is_listed_later_and_nothing_else() -> None:
    first = play(Service(BY_APP))
    run = play(Service(BY_APP), first, named=(app("7"),))
    assert run.said == ["0*", "0#?", "0#7", "1*", "1#7", "2*", "2#7", "3*", "3#7", "4#7", "5#7"]
    assert play(Service(BY_APP), run, named=(app("7"),)).said == ["0*", "1*", "2*", "3*"]


def test_apps_that_explain_a_day_spare_the_others() -> None:
    spend = BUSY | {(n, "#7"): {8: 10, 9: 5} for n in range(6)}
    run = play(Service(spend), named=APPS)
    assert of(run, "#8") == []
    assert all(verdict.split(Cut.APP).explained for verdict in run.verdicts.values() if verdict.has_spend)


def test_every_cut_is_asked_by_itself() -> None:
    run = play(Service(BY_APP | {(1, "@192.0.2.1"): {9: 1}}), named=(app("7"), ip("192.0.2.1")), since=ago(1))
    assert sorted(run.said) == sorted(["0*", "0?", "0#?", "0@?", "0#7", "0@192.0.2.1", "1*", "1#7", "1@192.0.2.1", "1A", "0A"])


def test_a_changed_total_has_the_days_apps_asked_again_by_a_run_that_does_not_list_them() -> None:
    first = play(Service(BY_APP), named=APPS)
    run = play(Service(BY_APP | {(2, "A"): {8: 11, 9: 5}}), first)
    assert run.said == ["0*", "1*", "2*", "2A", "2#7", "3*"]


def test_an_app_is_read_again_when_its_day_becomes_final() -> None:
    first = play(Service(BY_APP), named=(app("7"),))
    run = play(Service(BY_APP), first, now=NOW + DAY, today=TODAY + DAY)
    assert run.said == ["-1*", "0*", "1*", "2*", "3*", "3A", "3#7"]
    assert run.verdicts[ago(3)].read_since(run.state.wishes.final_at(ago(3)))


def test_a_refused_app_ends_alone() -> None:
    service = Service(BY_APP, stranger="error")
    run = play(service, named=APPS)
    assert run.state.names.beliefs[app("8")] is Belief.SET_ASIDE
    assert len(of(run, "#8")) == 1
    assert of(run, "#7") == [f"{n}#7" for n in range(6)]
    assert not any(verdict.is_failed for verdict in run.verdicts.values())
    assert of(play(service, run, named=APPS, but={ago(5)}), "#8") == []


def test_an_app_refused_later_keeps_what_is_held_of_it_and_fails_nothing() -> None:
    service = Service(BY_APP)
    first = play(service, named=(app("7"),))
    service.spend[0, "A"] = {8: 11, 9: 5}
    service.errors = {(n, "#7"): ("ERROR_ACCESS_DENIED", Effect.FILTER) for n in range(9)}
    run = play(service, first, named=(app("7"),))
    assert run.state.names.beliefs[app("7")] is Belief.ENDED
    assert run.said == ["0*", "0A", "0#7", "1*", "2*", "3*"]
    assert not any(verdict.is_failed for verdict in run.verdicts.values())
    assert fold(run.books[ago(0)]).facts[app("7"), day_start(TODAY) + 8 * HOUR].volume == 4


def test_an_app_that_only_ever_repeats_the_total_is_doubted_where_strangers_do() -> None:
    run = play(Service(BY_APP, stranger="totals"), named=APPS)
    beliefs = run.state.names.beliefs
    assert (beliefs[app("7")], beliefs[app("8")]) == (Belief.BELIEVED, Belief.DOUBTED)
    assert all(app("8") not in verdict.active for verdict in run.verdicts.values())


def test_apps_beyond_the_total_are_asked_once_more_with_it_and_leave_the_queues_alone() -> None:
    service = Service(BUSY | {(4, "#7"): {8: 11}})
    run = play(service, named=(app("7"),))
    assert [said for said in run.said if said.startswith("4")] == ["4*", "4A", "4#7", "4*", "4#7"]
    assert run.verdicts[ago(4)].contradicted == {Cut.APP}
    assert run.verdicts[ago(4)].explained


def test_a_closed_day_whose_members_exceed_its_total_is_looked_at_by_every_run() -> None:
    service = Service(BUSY)
    service.total_bonus[5, 8] = -3
    first = play(service)
    service.total_bonus.clear()
    run = play(service, first)
    assert run.said == ["0*", "1*", "2*", "3*", "5*", "5A"]
    assert not run.verdicts[ago(5)].contradicted


def test_a_failed_app_window_fails_its_day_and_is_asked_by_the_next_run() -> None:
    service = Service(BY_APP)
    service.errors[4, "#7"] = ("timeout", None)
    first = play(service, named=(app("7"),))
    assert first.verdicts[ago(4)].is_failed
    service.errors.clear()
    assert play(service, first, named=(app("7"),)).said == ["0*", "1*", "2*", "3*", "4#7"]


def test_totals_only_asks_no_app_either() -> None:
    assert play(Service(BY_APP), totals_only=True, named=APPS).said == [f"{n}*" for n in range(9)]


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

    def answer(self, window: Window, number: int, asked_at: datetime) -> Reading:
        reading = super().answer(window, number, asked_at)
        return replace(reading, records=tuple(record for record in reading.records if record.volume))


def test_where_23_records_may_be_all_that_comes_an_empty_day_has_its_last_hour_asked_too() -> None:
    service = Sparse({(1, "A"): {8: 10}, (2, "A"): {23: 5}})
    service.last_hour |= {(2, None): 22, (2, "A"): 22}
    run = play(service)
    assert [said for said in run.said if said.startswith(("2", "3"))] == ["2*", "2*@23", "2A", "2A@23", "3*", "3*@23"]
    assert run.verdicts[ago(2)].total.volume == 5
    assert run.verdicts[ago(2)].explained


# ---------------------------------------------------------------- waiting


def test_a_day_that_waited_goes_on_when_the_one_it_waited_for_needs_no_request() -> None:
    spend = {(n, "A"): {8: 10} for n in range(6)} | {(0, "B"): {3: 1}}
    first = play(Service(spend, unknown="zeros"))
    assert play(Service(spend, unknown="zeros"), first, lookback=0).said == ["0*", "0A"]


def test_final_days_that_only_lack_an_app_learn_first_what_a_stranger_gives() -> None:
    first = play(Service(BUSY), until=ago(4))
    assert play(Service(BUSY), first, until=ago(4), named=(app("7"),)).said == ["4#?", "4#7", "5#7"]


# ---------------------------------------------------------------- what a stranger gives


def test_zeros_where_the_total_has_none_either_teach_nothing() -> None:
    window = Window.whole_day("default", NO_SUCH[Cut.QUEUE], ago(1))
    idle = tuple(Record(day_start(ago(1)) + n * HOUR, 0, Decimal(0)) for n in range(23))
    answer = Reading(2, window, NOW, Outcome.GOOD, idle)
    late = {day_start(ago(1)) + 23 * HOUR: Value(5, Decimal(1))}
    assert lesson(answer, Verdict(ago(1), hours=late)) is None
    early = {day_start(ago(1)) + 3 * HOUR: Value(5, Decimal(1))}
    assert lesson(answer, Verdict(ago(1), hours=early)) == Lesson(Unknown.ZEROS)
    refund = {day_start(ago(1)) + 3 * HOUR: Value(0, Decimal(-1))}
    assert lesson(answer, Verdict(ago(1), hours=refund)) is None


def beside(said: Spend, total: Spend, later: timedelta = timedelta(minutes=1)) -> Belief | None:
    """What is thought of a name that gave ``said`` on a closed day with that total, where strangers give totals."""
    at = day_start(ago(1))
    names = Names(lessons={Cut.QUEUE: Lesson(Unknown.TOTALS)})
    hours = {at + n * HOUR: Value(tasks, Decimal(tasks)) for n, tasks in total.items()}
    verdict = Verdict(ago(1), closed=True, total_asked=NOW, hours=hours)
    records = tuple(Record(at + n * HOUR, tasks, Decimal(tasks)) for n, tasks in said.items())
    window = Window.whole_day("default", queue("A"), ago(1))
    return judged(names, Reading(2, window, NOW + later, Outcome.GOOD, records), verdict).beliefs[queue("A")]


def test_a_part_of_the_total_proves_a_name_and_what_exceeds_it_does_not() -> None:
    assert beside({3: 4, 4: 1}, {3: 5, 4: 1}) is Belief.BELIEVED
    assert beside({3: 5, 4: 1}, {3: 5, 4: 1}) is Belief.DOUBTED
    assert beside({3: 6, 4: 0}, {3: 5, 4: 1}) is Belief.DOUBTED


def test_an_empty_answer_proves_a_name_on_the_totals_own_day_alone() -> None:
    assert beside({}, {3: 5}) is Belief.BELIEVED
    assert beside({}, {3: 5}, later=timedelta(hours=20)) is Belief.DOUBTED


# ---------------------------------------------------------------- contradictions


def test_queues_that_exceed_the_total_are_asked_once_more_and_then_left() -> None:
    service = Service(BUSY)
    service.total_bonus[4, 8] = -3
    run = play(service)
    assert [said for said in run.said if said.startswith("4")] == ["4*", "4A", "4*", "4A"]
    assert run.verdicts[ago(4)].contradicted


# ---------------------------------------------------------------- trouble


def test_a_fatal_refusal_stops_every_other_request() -> None:
    service = Service(BUSY)
    service.errors[0, None] = ("ERROR_KEY_DOES_NOT_EXIST", Effect.ACCOUNT)
    run = Run(wishes(concurrency=8), service)
    assert run.go() is Why.REFUSED
    assert run.said == ["0*"]
    assert run.state.refusal is not None


def test_a_fatal_refusal_in_the_middle_lets_nothing_new_begin() -> None:
    service = Service(BUSY)
    service.errors[3, None] = ("ERROR_IP_BLOCKED", Effect.ACCOUNT)
    run = Run(wishes(concurrency=4), service)
    assert run.go() is Why.REFUSED
    assert "8*" not in run.said


@pytest.mark.parametrize("effect", [Effect.WINDOW, None])
def test_the_same_trouble_on_five_windows_in_a_row_stops_the_account(effect: Effect | None) -> None:
    service = Service(BUSY)
    for n in range(2, 20):
        service.errors[n, None] = ("http_502", effect)
    run = Run(wishes(), service)
    assert run.go() is Why.ALIKE
    assert run.said[-5:] == ["2*", "3*", "4*", "5*", "6*"]


def test_too_many_failures_in_a_row_stop_the_account_whatever_their_codes() -> None:
    service = Service({(0, "A"): {8: 1}})
    for n in range(1, 200):
        service.errors[n, None] = (f"trouble {n % 3}", None)
    run = Run(wishes(), service)
    assert run.go() is Why.ALIKE
    assert run.said[-1] == f"{walk.FAILED}*"


def test_the_search_for_the_start_of_history_has_a_floor() -> None:
    last = walk.FLOOR + timedelta(days=3)
    state = walk.begin(wishes(until=last, empty_days=1000), Held())
    assert walk.forecast(state).days == 4


def test_one_failed_window_leaves_the_others_and_is_asked_by_the_next_run() -> None:
    service = Service(BUSY)
    service.errors[4, "A"] = ("timeout", None)
    first = play(service)
    assert first.verdicts[ago(4)].is_failed
    service.errors.clear()
    assert play(service, first).said == ["0*", "1*", "2*", "3*", "4A"]


def test_max_requests_stops_with_work_left_and_the_next_run_goes_on() -> None:
    first = Run(wishes(max_requests=6), Service(BUSY))
    assert first.go() is Why.LIMIT
    assert len(first.asked) == 6
    again = play(Service(BUSY), first)
    assert [said for said in again.said if said in first.said] == ["0*", "1*", "2*"]


def test_max_requests_of_just_enough_is_not_a_limit_reached() -> None:
    enough = len(play(Service(BUSY)).asked)
    assert Run(wishes(max_requests=enough), Service(BUSY)).go() is Why.DONE


def test_a_believed_queue_that_gives_the_unknown_error_has_failed_and_is_not_set_aside() -> None:
    service = Service(BUSY | {(n, "B"): {3: 1} for n in range(6)})
    first = play(service)
    assert first.state.names.lessons[Cut.QUEUE].code == "ERROR_QUEUE"
    service.errors[1, "A"] = ("ERROR_QUEUE", Effect.WINDOW)
    service.total_bonus[1, 8] = 1
    again = play(service, first)
    assert again.state.names.beliefs[queue("A")] is Belief.BELIEVED
    assert again.verdicts[ago(1)].is_failed


def test_trouble_of_the_moment_teaches_nothing_about_unknown_names() -> None:
    service = Service(BUSY)
    service.errors[0, NO_SUCH[Cut.QUEUE].member] = ("ERROR_NO_SLOT_AVAILABLE", Effect.MOMENT)
    run = play(service)
    assert Cut.QUEUE not in run.state.names.lessons
    assert run.said == ["0*", "0?", *(f"{n}*" for n in range(1, 9))]
    service.errors.clear()
    assert "0?" in play(service, run).said


def test_totals_that_are_partly_refused_stop_the_account_like_any_failure() -> None:
    class Spoiled(Service):
        def answer(self, window: Window, number: int, asked_at: datetime) -> Reading:
            return replace(super().answer(window, number, asked_at), outcome=Outcome.PARTIAL, code="rejected_records")

    run = Run(wishes(), Spoiled(BUSY))
    assert run.go() is Why.ALIKE
    assert len(run.asked) == walk.ALIKE
    bounded = Run(wishes(since=ago(2)), Spoiled(BUSY))
    assert bounded.go() is Why.DONE


def test_an_empty_answer_where_spend_is_held_is_asked_once_more() -> None:
    service = Service(BUSY)
    first = play(service)

    class Emptied(Service):
        def answer(self, window: Window, number: int, asked_at: datetime) -> Reading:
            reading = super().answer(window, number, asked_at)
            return replace(reading, records=()) if window.day == ago(2) else reading

    run = play(Emptied(BUSY), first)
    assert [said for said in run.said if said.startswith("2")] == ["2*", "2*", "2A", "2A"]
    assert not run.verdicts[ago(2)].has_spend
    assert not run.verdicts[ago(2)].contradicted


def test_a_total_that_falls_to_zero_has_its_queues_asked_again_beside_it() -> None:
    first = play(Service(BUSY))
    run = play(Service({(n, "A"): {8: 0 if n == 2 else 10, 9: 0 if n == 2 else 5} for n in range(6)}), first)
    assert run.said == ["0*", "1*", "2*", "2A", "3*"]
    assert not run.verdicts[ago(2)].contradicted


def test_a_tail_that_changed_since_has_its_queues_asked_again() -> None:
    spend = {(n, "A"): {8: 10, 22: 4} for n in range(6)}
    first = play(Service(spend))
    service = Service(spend | {(1, "A"): {8: 10, 22: 6}})
    service.last_hour[1, None] = 20
    assert [said for said in play(service, first).said if said.startswith("1")] == ["1*", "1*@22", "1A"]


def test_a_partly_refused_answer_proves_no_name_where_unknown_names_give_totals() -> None:
    class Spoiled(Service):
        def answer(self, window: Window, number: int, asked_at: datetime) -> Reading:
            reading = super().answer(window, number, asked_at)
            is_typo = window.filter == queue("Typo")
            return replace(reading, outcome=Outcome.PARTIAL, code="rejected_records") if is_typo else reading

    run = play(Spoiled(BUSY, unknown="totals"), named=(queue("Typo"),), catalogue=())
    assert not any(queue("Typo") in verdict.active for verdict in run.verdicts.values())


def test_after_a_fruitless_hunt_days_still_wait_for_the_queue_that_is_likely() -> None:
    names = tuple("ABCDEFGH")
    spend = {(n, "B"): {8: 10} for n in range(1, 12)} | {(1, "Unlisted"): {9: 1}}
    run = play(Service(spend, unknown="zeros"), catalogue=names, concurrency=4)
    assert len(run.asked) == 1 + 11 + 3 + 1 + len(names) + 10
    assert [said for said in run.said if said.startswith(("5", "6"))] == ["5*", "6*", "5B", "6B"]


def test_a_limit_of_just_enough_is_none_though_the_running_day_waited_for_the_day_before() -> None:
    service = Service({(0, "Unlisted"): {8: 1}}, unknown="zeros")
    enough = len(play(service, since=ago(1)).asked)
    assert Run(wishes(since=ago(1), max_requests=enough), service).go() is Why.DONE


def test_a_run_that_was_stopped_says_how_many_days_are_left_at_least() -> None:
    service = Service(BUSY)
    service.errors[3, None] = ("ERROR_IP_BLOCKED", Effect.ACCOUNT)
    run = Run(wishes(concurrency=4), service)
    assert run.go() is Why.REFUSED
    assert run.state.days_left > 0
    assert play(Service(BUSY)).state.days_left == 0


def test_a_day_with_a_rest_is_weighed_against_a_fresh_total_where_unknown_names_give_totals() -> None:
    spend = BUSY | {(4, "New"): {3: 7}}
    first = play(Service(spend, unknown="totals"), catalogue=("A", "B"))
    run = play(Service(spend, unknown="totals"), first, named=(queue("New"),), catalogue=("A", "B"))
    assert [said for said in run.said if said.startswith("4")][:1] == ["4*"]
    assert run.state.names.beliefs[queue("New")] is Belief.BELIEVED


def test_the_first_fatal_refusal_is_the_one_reported() -> None:
    service = Service(BUSY)
    service.errors[3, None] = ("ERROR_IP_BLOCKED", Effect.ACCOUNT)
    service.errors[4, None] = ("ERROR_KEY_DOES_NOT_EXIST", Effect.ACCOUNT)
    run = Run(wishes(concurrency=4), service)
    assert run.go() is Why.REFUSED
    assert run.state.refusal is not None
    assert run.state.refusal.code == "ERROR_IP_BLOCKED"


def test_days_that_need_no_request_are_shut_all_the_same() -> None:
    first = play(Service(BUSY))
    state, step = walk.next(walk.begin(wishes(until=ago(4)), replace(first.held(), final=frozenset())), room=1)
    assert step == Done(Why.DONE)
    assert state.shut == (ago(4), ago(5), ago(6), ago(7), ago(8))


# ---------------------------------------------------------------- forecast


def test_the_forecast_of_a_known_history_bounds_what_the_run_asks() -> None:
    first = play(Service(BUSY))
    expected = walk.forecast(walk.begin(wishes(), first.held()))
    asked = len(play(Service(BUSY), first).asked)
    assert expected.at_most is not None
    assert expected.at_least <= asked <= expected.at_most
    assert (expected.days, expected.at_least) == (4, 4)


def test_the_forecast_of_an_unknown_history_has_no_upper_bound_unless_since_gives_one() -> None:
    assert walk.forecast(walk.begin(wishes(), Held())).at_most is None
    expected = walk.forecast(walk.begin(wishes(since=ago(9)), Held()))
    assert (expected.days, expected.at_least, expected.at_most) == (10, 10, 10 * 4 + 1)


# ---------------------------------------------------------------- spells


def test_a_spell_grows_over_a_weekend_and_not_over_a_month() -> None:
    monday = date(2026, 11, 2)
    spells = walk.with_day((), monday)
    spells = walk.with_day(spells, monday - timedelta(days=3))
    assert spells == (Spell(monday - timedelta(days=3), monday),)
    assert len(walk.with_day(spells, monday - timedelta(days=40))) == 2


def test_a_day_between_two_spells_joins_them() -> None:
    early, late = Spell(ago(20), ago(14)), Spell(ago(2), ago(0))
    assert walk.with_day((early, late), ago(8)) == (Spell(ago(20), ago(0)),)


def test_the_answer_of_a_stranger_day_changes_nothing() -> None:
    state = walk.begin(wishes(), Held())
    window = Window.whole_day("default", TOTAL, ago(3))
    told = walk.tell(state, Reading(1, window, NOW, Outcome.GOOD), Verdict(ago(3)))
    assert told.open == {}


def test_a_day_is_asked_for_the_hours_it_owes_once_a_later_day_has_proved_its_queue() -> None:
    # B's 23 hours are the total's on the first of the days, as those of a name that is not known would be; the second proves it.
    service = Service({(5, "B"): {8: 10, 23: 2}, (6, "A"): {8: 10}, (6, "B"): {9: 3}}, unknown="totals")
    service.last_hour[5, "B"] = 22
    first = play(service, catalogue=("B", "A"))
    assert [said for said in first.said if said.startswith(("5", "6"))] == ["5*", "5?", "5B", "5A", "6*", "6B", "5B@23", "6A"]
    assert first.verdicts[ago(5)].explained
    assert [said for said in play(service, first, catalogue=("B", "A")).said if said.startswith(("5", "6"))] == []


def test_a_day_that_owes_an_hour_of_a_queue_is_visited_by_the_next_run() -> None:
    service = Service({(5, "B"): {8: 10, 23: 2}, (6, "A"): {8: 10}, (6, "B"): {9: 3}}, unknown="totals")
    service.last_hour[5, "B"] = 22
    whole = play(service, catalogue=("B", "A"))
    cut_short = Run(wishes(catalogue=("B", "A"), max_requests=whole.said.index("5B@23")), service)
    assert cut_short.go() is Why.LIMIT
    again = play(service, cut_short, catalogue=("B", "A"))
    assert "5B@23" in again.said
    assert again.verdicts[ago(5)].explained


def test_answers_of_one_moment_are_told_a_day_at_once_in_their_order_and_a_total_by_itself() -> None:
    asked = [(2, "A"), (1, "A"), (2, None), (2, "B"), (1, "B"), (2, "C"), (1, None)]
    windows = [Window.whole_day("default", queue(name) if name else TOTAL, ago(days)) for days, name in asked]
    readings = [Reading(number, window, NOW, Outcome.GOOD) for number, window in enumerate(windows, start=1)]
    assert [[reading.number for reading in group] for group in walk.together(readings)] == [[1], [3], [4, 6], [2, 5], [7]]
