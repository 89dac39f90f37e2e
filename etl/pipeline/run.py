"""One sync of one account: asks the walk what is next, takes answers in, folds them, tells the walk."""

import logging
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal

from etl import __version__, errors, logs
from etl.clock import Clock
from etl.extract import walk, wire
from etl.extract.client import Client, Stopped
from etl.load.ledger import Ledger
from etl.load.upsert import DayRow, Learned, pack
from etl.pipeline.findings import Findings
from etl.pipeline.gather import Day, gathered, load_days, wishes
from etl.pipeline.words import Progress, Summary
from etl.pipeline.write import NewBelief, Note, Writer
from etl.records import HOUR, MOST_SKEW, TOTAL, Answer, Belief, Filter, Reading, Verdict, Window
from etl.serve import check
from etl.settings import Settings
from etl.transform import validate
from etl.transform.fold import Book, fold, nothing
from etl.warehouse.checks import Checked

log = logging.getLogger(__name__)

SPELLED_OUT = 5
"""Refused records of one answer that the log spells out; the warehouse keeps all."""


@dataclass(slots=True)
class _Tally:
    """Counts of a run. ``totals`` and ``pairs`` are what a run that knew all answers beforehand would have asked."""

    windows_good: int = 0
    windows_failed: int = 0
    rejections: int = 0
    outside: int = 0
    money: Decimal = Decimal(0)
    spent: dict[date, Decimal] = field(default_factory=dict)
    totals: set[date] = field(default_factory=set)
    pairs: set[tuple[date, Filter]] = field(default_factory=set)
    asked: set[Filter] = field(default_factory=set)

    def take(self, reading: Reading, now: Verdict, is_lesson: bool) -> None:
        self.windows_good += reading.is_good
        self.windows_failed += not reading.is_good and not is_lesson
        self.rejections += len(reading.rejections)
        self.outside += reading.outside
        self.money += now.total.money - self.spent.get(now.day, Decimal(0))
        self.spent[now.day] = now.total.money
        filter = reading.window.filter
        self.asked.add(filter)
        if filter == TOTAL:
            self.totals.add(now.day)
        elif filter in now.active:
            self.pairs.add((now.day, filter))


_Event = Answer | BaseException | None
"""An answer, the end of a thread that was stopped, trouble, an interrupt, or (None) a commit that made room."""


class Run:
    """One sync of one account, from the first request to the summary."""

    def __init__(self, settings: Settings, clock: Clock, watch: Callable[[Progress], None], ledger: Ledger, client: Client) -> None:
        self._settings, self._clock, self._watch, self._ledger, self._client = settings, clock, watch, ledger, client
        self._wishes = wishes(settings, clock.now(), ledger.account.since)
        found = gathered(ledger, self._wishes)
        self._held, self._days = found.held, found.days
        self._light, self._stored = found.light, found.stored
        self._finished: set[date] = set()
        self._written: set[date] = set()
        self._being_written: set[date] = set()
        self._learned = Learned(ledger.account.grid, ledger.account.reaches_end, ledger.account.lessons)
        self._state = walk.begin(self._wishes, found.held)
        self._trusts_clock = True
        self._tally = _Tally()
        self._findings = Findings(self._wishes)
        self._refused_records = logs.Sparing(log, "refused records")
        self._failed_windows = logs.Sparing(log, "failed windows")
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._flying = 0
        self._began = clock.ticks()
        self._number = ledger.start_run("sync", __version__, self._state.first, self._missing())
        logs.about(account=settings.account, run=ledger.run)
        self._writer = Writer(ledger, clock, self._events.put, enough=settings.concurrency // 2)

    def go(self) -> Summary:
        """The whole run, to its summary."""
        self._writer.start()
        try:
            self._writer.put(self._seen_anew(self._stored), self._new_beliefs(self._stored, decided_by=None))
            why = self._ask_everything()
            self._writer.close()
        except KeyboardInterrupt:
            self._writer.abandon()
            self._close_run(errors.InterruptedRunError.exit_code, left=0)
            raise errors.InterruptedRunError(
                f"account {self._settings.account}: interrupted; the {self._tally.windows_good} windows read so far are kept",
                "run it again, it goes on where it stopped",
            ) from None
        except BaseException:
            self._writer.abandon()
            raise
        return self._finish(why)

    def interrupt(self) -> None:
        """Called by another thread: ``go`` ends as Ctrl-C ends it, also where all that it waits for is a slow server."""
        self._events.put(KeyboardInterrupt())

    def _missing(self) -> list[date]:
        """Days inside the history of which nothing is held, so that coverage shows them until they are."""
        first = self._state.first
        span = (first + timedelta(days=n) for n in range((self._wishes.newest - first).days + 1))
        return [day for day in span if day not in self._held.days]

    # -- asking

    def _ask_everything(self) -> walk.Why:
        """The loop: ask while there is room, take in what comes."""
        with ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="ask") as pool:
            try:
                while True:
                    if self._room > 0:
                        self._state = replace(self._state, retries=self._client.retries)
                        self._state, step = walk.next(self._state, self._room)
                        self._writer.put(self._settled())
                        if isinstance(step, walk.Done):
                            return step.why
                        if isinstance(step, walk.Ask):
                            self._send(pool, step.windows)
                            continue
                    self._take([self._events.get(), *self._come_in()])
                    self._watch(self._progress())
            except BaseException:
                self._client.stop()  # or the pool would wait for its threads
                raise

    @property
    def _room(self) -> int:
        """Windows that may be sent now: no more in the air than threads, no more uncommitted than twice as many."""
        most = self._settings.concurrency
        return min(most - self._flying, 2 * most - self._flying - self._writer.waiting)

    def _send(self, pool: ThreadPoolExecutor, windows: Iterable[Window]) -> None:
        settled = frozenset(lesson.code for lesson in self._state.names.lessons.values() if lesson.code)
        for window in windows:
            self._flying += 1
            pool.submit(copy_context().run, self._ask, window, settled).add_done_callback(self._landed)

    def _ask(self, window: Window, settled: frozenset[str]) -> Answer:
        """What a thread does with a window; it packs the answer too, for the one that writes has most to do."""
        answer = self._client.ask(window, settled, self._is_sound)
        return replace(answer, packed=pack(answer.body))

    def _is_sound(self, answer: Answer) -> bool:
        """Whether every record can be used; asked by the threads, before the answer is anybody's."""
        return validate.read(answer, 0, self._light.grid).is_good

    def _landed(self, future: "Future[Answer]") -> None:
        self._events.put(future.exception() or future.result())

    # -- taking in

    def _come_in(self) -> Iterator[_Event]:
        """What else has come by now."""
        with suppress(queue.Empty):
            while True:
                yield self._events.get_nowait()

    def _take(self, events: Iterable[_Event]) -> None:
        """Takes in what came: answers first, so that none is lost to the trouble of another."""
        answers, others = list[Answer](), list[BaseException | None]()
        for event in events:
            self._flying -= isinstance(event, Answer | Stopped)
            if isinstance(event, Answer):
                answers.append(event)
            else:
                others.append(event)
        readings = [self._read(answer) for answer in answers]
        for group in walk.together(readings):
            self._take_together(group)
        for reading, answer in zip(readings, answers, strict=True):
            self._report(reading, answer)
        for event in others:
            if isinstance(event, Stopped):
                self._state = walk.lost(self._state)
            elif event is not None:
                raise event

    def _read(self, answer: Answer) -> Reading:
        reading = validate.read(self._by_true_time(answer), self._number, self._light.grid)
        self._number += 1
        self._learn_habits(reading)
        return reading

    def _take_together(self, readings: Sequence[Reading]) -> None:
        """Takes in readings of one day, which is folded once for them all."""
        today = self._day(readings[0].window.day)
        held, before, beliefs = today.folded.verdict, self._state.names.beliefs, list[NewBelief]()
        for reading in readings:
            earlier, self._state = self._state.names.beliefs, walk.judge(self._state, reading, held)
            beliefs += self._new_beliefs(earlier, decided_by=reading.number)
        self._light = replace(self._light, beliefs=self._state.names.beliefs, lessons=self._state.names.lessons)
        today.book = self._light.on(today.book.with_readings(readings))
        today.folded = fold(today.book)
        notes = []
        for reading in readings:
            self._state = walk.tell(self._state, reading, today.folded.verdict)
            self._tally.take(reading, today.folded.verdict, walk.is_lesson(self._state, reading))
            self._findings.of_reading(reading)
            notes += [self._note(today, reading), *self._settled()]
        self._writer.put([*notes, *self._seen_anew(before, but=today.book.day)], beliefs)
        if self._state.stopped:
            self._client.stop()

    def _by_true_time(self, answer: Answer) -> Answer:
        """The answer, dated no later than either clock says: of two readings the one asked later wins, so none may come early."""
        if answer.server_time is None or abs(answer.server_time - answer.asked_at) <= MOST_SKEW:
            return answer
        self._trusts_clock = False
        self._findings.of_clock(answer.server_time - answer.asked_at)
        return replace(answer, asked_at=min(answer.asked_at, answer.server_time))

    def _learn_habits(self, reading: Reading) -> None:
        """The account's grid is that of its first good total; its answers reach the day's end from the first that did."""
        if not reading.records or reading.window.filter != TOTAL:
            return
        if self._light.grid is None:
            self._light = replace(self._light, grid=validate.grid_of(reading.window, reading))
        last_hour = reading.window.end - HOUR + timedelta(seconds=self._light.grid or 0)
        reaches_end = not reading.window.is_tail and any(record.hour_start == last_hour for record in reading.records)
        if self._light.reaches_end is None and reaches_end:
            self._light = replace(self._light, reaches_end=reading.number)

    def _day(self, day: date) -> Day:
        """A day in hand; the warehouse is asked for one that it holds."""
        if day not in self._days and (day in self._held.days or day in self._finished):
            if day in self._being_written or day in self._finished:
                self._writer.flush()  # or what is loaded might lack a change of mind about the day
                self._being_written.clear()
            self._days |= load_days(self._ledger, [day], self._light)
        return self._days.setdefault(day, Day(Book(day), nothing(day), nothing(day)))

    def _report(self, reading: Reading, answer: Answer) -> None:
        """One line for a window that failed, one at debug level for each that came."""
        window, words = reading.window, reading.window.words
        words |= {"code": reading.code, "requests": answer.requests, "seconds": round(answer.seconds, 3)}
        if reading.is_good:
            log.debug("%s: %d records", window, len(reading.records), extra={**words, "records": len(reading.records)})
        elif walk.is_lesson(self._state, reading):
            log.debug("%s: refused by the service (%s); it is not asked again", window, reading.code, extra=words)
        else:
            said = f"{reading.code}: {reading.message}" if reading.message else reading.code
            self._failed_windows.warning("%s: failed: %s; what is held stays, the next run asks again", window, said, extra=words)
        refused = "%s: record refused, %s; see spending_rejections: %s"
        for rejection in reading.rejections[:SPELLED_OUT]:
            self._refused_records.warning(refused, window, rejection.reason, rejection.raw, extra=words)
        if len(reading.rejections) > SPELLED_OUT:
            more = len(reading.rejections) - SPELLED_OUT
            self._refused_records.warning("%s: %d more records refused; see spending_rejections", window, more, extra=words)

    # -- handing over to the writer

    def _note(self, today: Day, reading: Reading | None = None, is_last: bool = False) -> Note:
        verdict = today.folded.verdict
        learned = Learned(self._light.grid, self._light.reaches_end, self._state.names.lessons)
        is_news, self._learned = learned != self._learned, learned
        row = DayRow(verdict, self._status(verdict))
        self._written.add(verdict.day)
        return Note(row, today.folded, today.held, reading, learned if is_news else None, is_last)

    def _settled(self) -> list[Note]:
        """Last notes of the days the walk has just finished with; their readings are let go."""
        self._finished.update(self._state.shut)
        shut = [self._day(day) for day in self._state.shut]
        for today in shut:
            self._findings.of_day(today.folded.verdict, today.held.verdict)
            del self._days[today.book.day]
        return [self._note(today, is_last=True) for today in shut]

    def _status(self, verdict: Verdict) -> str:
        """The first that applies: failed, missing, open or final."""
        if verdict.is_failed:
            return "failed"
        if verdict.total_asked is None:
            return "missing"
        is_settled = verdict.day in self._finished or verdict.day in self._held.final
        is_final = is_settled and self._trusts_clock and verdict.read_since(self._wishes.final_at(verdict.day))
        return "final" if is_final else "open"

    def _new_beliefs(self, before: Mapping[Filter, Belief], decided_by: int | None) -> list[NewBelief]:
        now = self._state.names.beliefs
        return [(filter, belief, decided_by) for filter, belief in now.items() if before.get(filter) is not belief]

    def _seen_anew(self, before: Mapping[Filter, Belief], but: date | None = None) -> list[Note]:
        """Notes that book the money of names that are believed since now, or no longer, on all other days they were asked for."""
        earlier, met = replace(self._light, beliefs=before), before.keys() | self._light.beliefs.keys()
        changed = sorted(filter for filter in met if earlier.counts(filter) != self._light.counts(filter))
        if not changed:
            return []
        self._writer.flush()  # or a day's last reading might be missing from what is loaded
        for today in self._days.values():
            today.book = self._light.on(today.book)
            today.folded = fold(today.book)
        in_hand = [today for day, today in self._days.items() if day != but]
        spared = {*self._days, *self._held.frozen, but}
        elsewhere = [day for day in self._ledger.days_asked_for(changed) if day not in spared]
        loaded = list(load_days(self._ledger, elsewhere, self._light).values())
        self._being_written = {*elsewhere}  # all earlier ones are, by now
        for today in (*in_hand, *loaded):
            self._state = walk.see_anew(self._state, today.folded.verdict)
        for today in loaded:
            self._findings.of_day(today.folded.verdict)
        return [self._note(today) for today in in_hand] + [self._note(today, is_last=True) for today in loaded]

    # -- the end

    def _progress(self) -> Progress:
        state, done = self._state, len(self._finished)
        planned = None if state.further else len({*self._finished, *state.open, *state.todo})
        elapsed = self._clock.ticks() - self._began
        return Progress(
            day=max(state.open, default=None),
            days_done=done,
            days_planned=planned,
            requests=self._client.requests,
            facts=self._writer.counts.inserted,
            money=self._tally.money,
            seconds_left=elapsed / done * (planned - done) if planned and done else None,
        )

    def _finish(self, why: walk.Why) -> Summary:
        self._findings.of_end(self._state, why, self._tally.asked)
        settings = self._settings
        self._findings.of_checks(broken.finding for broken in self._checked().broken)
        if settings.keep_answers is not None:
            self._ledger.drop_answers(self._wishes.today - timedelta(days=settings.keep_answers))
        is_complete = why is walk.Why.DONE and not self._tally.windows_failed
        left = 0 if why is walk.Why.DONE else self._state.days_left
        code = errors.worst([3 if why is walk.Why.REFUSED else 0, 5 if self._findings.is_blocking else 0, 0 if is_complete else 1])
        self._close_run(code, left)
        if why is walk.Why.REFUSED:
            raise self._refused()
        return Summary(
            account=self._settings.account,
            exit_code=code,
            run=self._ledger.run,
            seconds=round(self._clock.ticks() - self._began, 3),
            windows_left=left,
            money=self._tally.money,
            days=len(self._finished),
            lower_bound=len(self._tally.totals) + len(self._tally.pairs),
            findings=self._findings.all,
            messages=self._last_words(why),
            **self._numbers(),
        )

    def _checked(self) -> Checked:
        """What does not hold of the days that this run wrote; of all, unless the run before looked and found them right."""
        since = min(self._written, default=self._wishes.today) if self._ledger.was_sound else date.min
        settings = self._settings
        found = check.gather(
            settings.warehouse, settings.account, settings.checks_folder, self._clock, wait=settings.lock_wait, since=since
        )
        return found.checked

    def _refused(self) -> errors.AccountRefusedError:
        refusal = self._state.refusal
        said = f"{refusal.window}: {refusal.code} {refusal.message}".strip() if refusal else self._settings.account
        return errors.AccountRefusedError(
            f"the API refused the account: {said}; requests made: {self._client.requests}; what was read is kept",
            wire.REMEDIES.get(refusal.code if refusal else "", "mend the account first; nothing is retried"),
        )

    def _last_words(self, why: walk.Why) -> tuple[str, ...]:
        if why is walk.Why.ALIKE and self._state.refusal:
            code = self._state.refusal.code
            return (f"stopped: too many windows in a row failed, the last with {code}; what was read is kept, run it again later",)
        if why is walk.Why.LIMIT:
            return (f"stopped at --max-requests {self._wishes.max_requests}; the next run goes on",)
        return ()

    def _close_run(self, code: int, left: int) -> None:
        self._ledger.finish_run(code, {**self._numbers(), "windows_left": left}, self._findings.all)

    def _numbers(self) -> dict[str, int]:
        return {
            "requests": self._client.requests,
            "retries": self._client.retries,
            "windows_good": self._tally.windows_good,
            "windows_failed": self._tally.windows_failed,
            "facts_inserted": self._writer.counts.inserted,
            "facts_changed": self._writer.counts.changed,
            "facts_unchanged": self._writer.unchanged,
            "rejections": self._tally.rejections,
            "outside": self._tally.outside,
        }
