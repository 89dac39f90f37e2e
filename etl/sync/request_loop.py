"""One sync of one account: asks the walk what is next, takes answers in, folds them, tells the walk."""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal

from etl import __version__, errors, logging_setup
from etl.clock import Clock
from etl.config import Settings
from etl.extract import planner, protocol
from etl.extract.client import Cancelled, Client
from etl.extract.rate_limit import POLL_INTERVAL
from etl.load.state import SyncStateStore
from etl.load.upsert import AccountTraits, CoverageRow, compress
from etl.models import HOUR, MAX_CLOCK_SKEW, TOTAL, DayState, MemberStatus, SeriesKey, Snapshot, Window
from etl.outputs import check_report
from etl.responses import Response
from etl.sync.findings import Findings
from etl.sync.load_state import Day, load_days, load_stored_state, options
from etl.sync.results import Progress, SyncResult
from etl.sync.writer import DayUpdate, NewMemberStatus, Writer
from etl.transform import parse
from etl.transform.reconcile import DaySnapshots, empty_day, reconcile
from etl.warehouse.checks import CheckRun

log = logging.getLogger(__name__)

SPELLED_OUT = 5
"""Refused records of one answer that the log spells out; the warehouse keeps all."""


@dataclass(slots=True)
class RunCounts:
    """Counts of a run. ``totals`` and ``pairs`` are what a run that knew all answers beforehand would have asked."""

    windows_good: int = 0
    windows_failed: int = 0
    rejections: int = 0
    outside: int = 0
    money: Decimal = Decimal(0)
    spent: dict[date, Decimal] = field(default_factory=dict)
    totals: set[date] = field(default_factory=set)
    pairs: set[tuple[date, SeriesKey]] = field(default_factory=set)
    asked: set[SeriesKey] = field(default_factory=set)

    def take(self, snapshot: Snapshot, now: DayState, is_expected_error: bool) -> None:
        self.windows_good += snapshot.is_success
        self.windows_failed += not snapshot.is_success and not is_expected_error
        self.rejections += len(snapshot.rejections)
        self.outside += snapshot.out_of_window
        self.money += now.total.money - self.spent.get(now.day, Decimal(0))
        self.spent[now.day] = now.total.money
        series = snapshot.window.series
        self.asked.add(series)
        if series == TOTAL:
            self.totals.add(now.day)
        elif series in now.active_members:
            self.pairs.add((now.day, series))


_Event = Response | BaseException | None
"""An answer, the end of a thread that was stopped, trouble, an interrupt, or (None) a commit that made room."""


class Run:
    """One sync of one account, from the first request to the summary."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        watch: Callable[[Progress], None],
        state_store: SyncStateStore,
        client: Client,
        cancelled: threading.Event,
    ) -> None:
        self._cancelled = cancelled
        self._settings, self._clock, self._watch, self._ledger, self._client = (
            settings,
            clock,
            watch,
            state_store,
            client,
        )
        self._wishes = options(settings, clock.now(), state_store.account.since)
        found = load_stored_state(state_store, self._wishes)
        self._held, self._days = found.stored, found.days
        self._light, self._stored = found.profile, found.stored_statuses
        self._finished: set[date] = set()
        self._written: set[date] = set()
        self._being_written: set[date] = set()
        self._learned = AccountTraits(
            state_store.account.hour_offset_seconds,
            state_store.account.full_day_from_snapshot,
            state_store.account.unknown_name_behaviours,
        )
        self._state = planner.start(self._wishes, found.stored)
        self._trusts_clock = True
        self._tally = RunCounts()
        self._findings = Findings(self._wishes)
        self._refused_records = logging_setup.RateLimitedLogger(log, "rejected records")
        self._failed_windows = logging_setup.RateLimitedLogger(log, "failed windows")
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._flying = 0
        self._began = clock.monotonic()
        self._number = state_store.start_run("sync", __version__, self._state.first_day, self._missing())
        logging_setup.bind_log_context(account=settings.account, run=state_store.run)
        self._writer = Writer(state_store, clock, self._events.put, enough=settings.concurrency // 2)

    def go(self) -> SyncResult:
        """The whole run, to its summary."""
        self._writer.start()
        try:
            self._writer.put(self._seen_anew(self._stored), self._new_beliefs(self._stored, decided_by=None))
            stop_reason = self._ask_everything()
            self._writer.close()
        except KeyboardInterrupt:
            self._writer.abandon()
            self._close_run(errors.InterruptedRunError.exit_code, left=0)
            raise errors.InterruptedRunError(
                f"account {self._settings.account}: interrupted; the {self._tally.windows_good} windows read so "
                "far are kept",
                "run it again, it goes on where it stopped",
            ) from None
        except BaseException:
            self._writer.abandon()
            raise
        return self._finish(stop_reason)

    def _missing(self) -> list[date]:
        """Days inside the history of which nothing is held, so that coverage shows them until they are."""
        first = self._state.first_day
        span = (first + timedelta(days=n) for n in range((self._wishes.end_day - first).days + 1))
        return [day for day in span if day not in self._held.days]

    # -- asking

    def _ask_everything(self) -> planner.StopReason:
        """The loop: ask while there is room, take in what comes."""
        with ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="ask") as pool:
            try:
                while True:
                    if self._room > 0:
                        self._state = replace(self._state, retries=self._client.retries)
                        self._state, step = planner.next_windows(self._state, self._room)
                        self._writer.put(self._settled())
                        if isinstance(step, planner.Done):
                            return step.stop_reason
                        if isinstance(step, planner.Request):
                            self._send(pool, step.windows)
                            continue
                    self._take([*self._first_event(), *self._come_in()])
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
        settled = frozenset(
            unknown_name_behaviour.code
            for unknown_name_behaviour in self._state.members.unknown_name_behaviours.values()
            if unknown_name_behaviour.code
        )
        for window in windows:
            self._flying += 1
            pool.submit(copy_context().run, self._ask, window, settled).add_done_callback(self._landed)

    def _ask(self, window: Window, settled: frozenset[str]) -> Response:
        """What a thread does with a window; it packs the answer too, for the one that writes has most to do."""
        answer = self._client.fetch(window, settled, self._is_sound)
        return replace(answer, compressed_body=compress(answer.body))

    def _is_sound(self, answer: Response) -> bool:
        """Whether every record can be used; asked by the threads, before the answer is anybody's."""
        return parse.parse_snapshot(answer, 0, self._light.hour_offset_seconds).is_success

    def _landed(self, future: "Future[Response]") -> None:
        self._events.put(future.exception() or future.result())

    # -- taking in

    def _first_event(self) -> list[_Event]:
        """The next event, or none after a while. Raises KeyboardInterrupt when another thread cancelled the sync."""
        if self._cancelled.is_set():
            raise KeyboardInterrupt
        try:
            return [self._events.get(timeout=POLL_INTERVAL)]
        except queue.Empty:
            return []

    def _come_in(self) -> Iterator[_Event]:
        """What else has come by now."""
        with suppress(queue.Empty):
            while True:
                yield self._events.get_nowait()

    def _take(self, events: Iterable[_Event]) -> None:
        """Takes in what came: answers first, so that none is lost to the trouble of another."""
        answers, others = list[Response](), list[BaseException | None]()
        for event in events:
            self._flying -= isinstance(event, Response | Cancelled)
            if isinstance(event, Response):
                answers.append(event)
            else:
                others.append(event)
        snapshots = [self._read(answer) for answer in answers]
        for group in planner.group_by_day(snapshots):
            self._take_together(group)
        for snapshot, answer in zip(snapshots, answers, strict=True):
            self._report(snapshot, answer)
        for event in others:
            if isinstance(event, Cancelled):
                self._state = planner.cancel_in_flight(self._state)
            elif event is not None:
                raise event

    def _read(self, answer: Response) -> Snapshot:
        snapshot = parse.parse_snapshot(self._by_true_time(answer), self._number, self._light.hour_offset_seconds)
        self._number += 1
        self._learn_habits(snapshot)
        return snapshot

    def _take_together(self, snapshots: Sequence[Snapshot]) -> None:
        """Takes in readings of one day, which is folded once for them all."""
        today = self._day(snapshots[0].window.day)
        stored, before, member_statuses = (
            today.reconciled.day_state,
            self._state.members.member_statuses,
            list[NewMemberStatus](),
        )
        for snapshot in snapshots:
            earlier, self._state = (
                self._state.members.member_statuses,
                planner.classify_name(self._state, snapshot, stored),
            )
            member_statuses += self._new_beliefs(earlier, decided_by=snapshot.number)
        self._light = replace(
            self._light,
            member_statuses=self._state.members.member_statuses,
            unknown_name_behaviours=self._state.members.unknown_name_behaviours,
        )
        today.day_snapshots = self._light.on(today.day_snapshots.with_snapshots(snapshots))
        today.reconciled = reconcile(today.day_snapshots)
        notes = []
        for snapshot in snapshots:
            self._state = planner.apply_snapshot(self._state, snapshot, today.reconciled.day_state)
            self._tally.take(snapshot, today.reconciled.day_state, planner.is_expected_error(self._state, snapshot))
            self._findings.of_reading(snapshot)
            notes += [self._note(today, snapshot), *self._settled()]
        self._writer.put([*notes, *self._seen_anew(before, but=today.day_snapshots.day)], member_statuses)
        if self._state.stop_reason:
            self._client.stop()

    def _by_true_time(self, answer: Response) -> Response:
        """The answer, dated no later than either clock says: of two readings the one asked later wins, so none may
        come early."""
        if answer.server_time is None or abs(answer.server_time - answer.requested_at) <= MAX_CLOCK_SKEW:
            return answer
        self._trusts_clock = False
        self._findings.of_clock(answer.server_time - answer.requested_at)
        return replace(answer, requested_at=min(answer.requested_at, answer.server_time))

    def _learn_habits(self, snapshot: Snapshot) -> None:
        """The account's grid is that of its first good total; its answers reach the day's end from the first that
        did."""
        if not snapshot.records or snapshot.window.series != TOTAL:
            return
        if self._light.hour_offset_seconds is None:
            self._light = replace(
                self._light, hour_offset_seconds=parse.infer_hour_offset(snapshot.window, snapshot.values_by_hour)
            )
        last_hour = snapshot.window.end - HOUR + timedelta(seconds=self._light.hour_offset_seconds or 0)
        reaches_end = not snapshot.window.is_partial_day and any(
            record.hour_start == last_hour for record in snapshot.records
        )
        if self._light.full_day_from_snapshot is None and reaches_end:
            self._light = replace(self._light, full_day_from_snapshot=snapshot.number)

    def _day(self, day: date) -> Day:
        """A day in hand; the warehouse is asked for one that it holds."""
        if day not in self._days and (day in self._held.days or day in self._finished):
            if day in self._being_written or day in self._finished:
                self._writer.flush()  # or what is loaded might lack a change of mind about the day
                self._being_written.clear()
            self._days |= load_days(self._ledger, [day], self._light)
        return self._days.setdefault(day, Day(DaySnapshots(day), empty_day(day), empty_day(day)))

    def _report(self, snapshot: Snapshot, answer: Response) -> None:
        """One line for a window that failed, one at debug level for each that came."""
        window, words = snapshot.window, snapshot.window.log_fields
        words |= {"code": snapshot.code, "requests": answer.requests, "seconds": round(answer.seconds, 3)}
        if snapshot.is_success:
            log.debug(
                "%s: %d records", window, len(snapshot.records), extra={**words, "records": len(snapshot.records)}
            )
        elif planner.is_expected_error(self._state, snapshot):
            log.debug("%s: refused by the service (%s); it is not asked again", window, snapshot.code, extra=words)
        else:
            said = f"{snapshot.code}: {snapshot.message}" if snapshot.message else snapshot.code
            self._failed_windows.warning(
                "%s: failed: %s; what is held stays, the next run asks again", window, said, extra=words
            )
        refused = "%s: record refused, %s; see spending_rejections: %s"
        for rejection in snapshot.rejections[:SPELLED_OUT]:
            self._refused_records.warning(refused, window, rejection.reason, rejection.raw, extra=words)
        if len(snapshot.rejections) > SPELLED_OUT:
            more = len(snapshot.rejections) - SPELLED_OUT
            self._refused_records.warning(
                "%s: %d more records refused; see spending_rejections", window, more, extra=words
            )

    # -- handing over to the writer

    def _note(self, today: Day, snapshot: Snapshot | None = None, is_last: bool = False) -> DayUpdate:
        day_state = today.reconciled.day_state
        learned = AccountTraits(
            self._light.hour_offset_seconds,
            self._light.full_day_from_snapshot,
            self._state.members.unknown_name_behaviours,
        )
        is_news, self._learned = learned != self._learned, learned
        row = CoverageRow(day_state, self._status(day_state))
        self._written.add(day_state.day)
        return DayUpdate(row, today.reconciled, today.stored, snapshot, learned if is_news else None, is_last)

    def _settled(self) -> list[DayUpdate]:
        """Last notes of the days the walk has just finished with; their readings are let go."""
        self._finished.update(self._state.completed_days)
        shut = [self._day(day) for day in self._state.completed_days]
        for today in shut:
            self._findings.of_day(today.reconciled.day_state, today.stored.day_state)
            del self._days[today.day_snapshots.day]
        return [self._note(today, is_last=True) for today in shut]

    def _status(self, day_state: DayState) -> str:
        """The first that applies: failed, missing, open or final."""
        if day_state.is_failed:
            return "failed"
        if day_state.total_requested_at is None:
            return "missing"
        is_settled = day_state.day in self._finished or day_state.day in self._held.final
        is_final = is_settled and self._trusts_clock and day_state.read_since(self._wishes.finalizes_at(day_state.day))
        return "final" if is_final else "open"

    def _new_beliefs(self, before: Mapping[SeriesKey, MemberStatus], decided_by: int | None) -> list[NewMemberStatus]:
        now = self._state.members.member_statuses
        return [
            (series, member_status, decided_by)
            for series, member_status in now.items()
            if before.get(series) is not member_status
        ]

    def _seen_anew(self, before: Mapping[SeriesKey, MemberStatus], but: date | None = None) -> list[DayUpdate]:
        """Notes that book the money of names that are believed since now, or no longer, on all other days they were
        asked for."""
        earlier, met = replace(self._light, member_statuses=before), before.keys() | self._light.member_statuses.keys()
        changed = sorted(series for series in met if earlier.counts(series) != self._light.counts(series))
        if not changed:
            return []
        self._writer.flush()  # or a day's last reading might be missing from what is loaded
        for today in self._days.values():
            today.day_snapshots = self._light.on(today.day_snapshots)
            today.reconciled = reconcile(today.day_snapshots)
        in_hand = [today for day, today in self._days.items() if day != but]
        spared = {*self._days, *self._held.without_raw, but}
        elsewhere = [day for day in self._ledger.days_with_members(changed) if day not in spared]
        loaded = list(load_days(self._ledger, elsewhere, self._light).values())
        self._being_written = {*elsewhere}  # all earlier ones are, by now
        for today in (*in_hand, *loaded):
            self._state = planner.apply_reconciled_day(self._state, today.reconciled.day_state)
        for today in loaded:
            self._findings.of_day(today.reconciled.day_state)
        return [self._note(today) for today in in_hand] + [self._note(today, is_last=True) for today in loaded]

    # -- the end

    def _progress(self) -> Progress:
        state, done = self._state, len(self._finished)
        planned = None if state.next_older_day else len({*self._finished, *state.open_days, *state.pending})
        elapsed = self._clock.monotonic() - self._began
        return Progress(
            day=max(state.open_days, default=None),
            days_done=done,
            days_planned=planned,
            requests=self._client.requests,
            hourly_values=self._writer.counts.inserted,
            money=self._tally.money,
            seconds_left=elapsed / done * (planned - done) if planned and done else None,
        )

    def _finish(self, stop_reason: planner.StopReason) -> SyncResult:
        self._findings.of_end(self._state, stop_reason, self._tally.asked)
        settings = self._settings
        self._findings.of_checks(broken.finding for broken in self._checked().broken)
        if settings.raw_retention_days is not None:
            self._ledger.prune_raw_responses(self._wishes.today - timedelta(days=settings.raw_retention_days))
        is_complete = stop_reason is planner.StopReason.DONE and not self._tally.windows_failed
        left = 0 if stop_reason is planner.StopReason.DONE else self._state.days_left
        code = errors.most_severe(
            [
                3 if stop_reason is planner.StopReason.ACCOUNT_REJECTED else 0,
                5 if self._findings.is_blocking else 0,
                0 if is_complete else 1,
            ]
        )
        new, changed = self._close_run(code, left)
        if stop_reason is planner.StopReason.ACCOUNT_REJECTED:
            raise self._refused()
        days = self._finished
        return SyncResult(
            first_day=min(days, default=None),
            last_day=max(days, default=None),
            account=self._settings.account,
            exit_code=code,
            run=self._ledger.run,
            seconds=round(self._clock.monotonic() - self._began, 3),
            windows_left=left,
            money=self._tally.money,
            days=len(self._finished),
            hourly_values_new=new,
            hourly_values_changed=changed,
            lower_bound=len(self._tally.totals) + len(self._tally.pairs),
            findings=self._findings.all,
            messages=self._last_words(stop_reason),
            **self._numbers(),
        )

    def _checked(self) -> CheckRun:
        """What does not hold of the days that this run wrote; of all, unless the run before looked and found them
        right."""
        since = min(self._written, default=self._wishes.today) if self._ledger.was_sound else date.min
        settings = self._settings
        found = check_report.run_checks(
            settings.warehouse,
            settings.account,
            settings.checks_folder,
            self._clock,
            wait=settings.lock_wait,
            since=since,
        )
        return found.checked

    def _refused(self) -> errors.AccountRejectedError:
        refusal = self._state.stopped_by
        said = f"{refusal.window}: {refusal.code} {refusal.message}".strip() if refusal else self._settings.account
        return errors.AccountRejectedError(
            f"the API refused the account: {said}; requests made: {self._client.requests}; what was read is kept",
            protocol.ACCOUNT_ERROR_HINTS.get(
                refusal.code if refusal else "", "mend the account first; nothing is retried"
            ),
        )

    def _last_words(self, stop_reason: planner.StopReason) -> tuple[str, ...]:
        if stop_reason is planner.StopReason.TOO_MANY_FAILURES and self._state.stopped_by:
            code = self._state.stopped_by.code
            return (
                (
                    f"stopped: too many windows in a row failed, the last with {code}; what was read is kept, run it "
                    "again later"
                ),
            )
        if stop_reason is planner.StopReason.LIMIT:
            return (f"stopped at --max-requests {self._wishes.max_requests}; the next run goes on",)
        return ()

    def _close_run(self, code: int, left: int) -> tuple[int, int]:
        return self._ledger.finish_run(code, {**self._numbers(), "windows_left": left}, self._findings.all)

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
