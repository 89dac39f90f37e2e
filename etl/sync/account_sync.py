"""Sync one account: ask the planner what to request, reconcile the responses, hand changes to the writer."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from etl import __version__, errors, logging_setup
from etl.clock import Clock
from etl.config import Settings
from etl.extract import planner
from etl.extract.client import Client
from etl.extract.journal import Journal, JournalHeader
from etl.load.state import SyncStateStore
from etl.load.upsert import CoverageRow
from etl.models import DayState, MemberStatus, SeriesKey, Snapshot
from etl.responses import Response
from etl.sync.balance import read_balance
from etl.sync.counts import RunCounts
from etl.sync.findings import Findings
from etl.sync.initial_state import LoadedDay, apply_profile, load_days, load_stored_state, sync_options
from etl.sync.recovery import describe, groups_in_order, is_no_longer_returned, is_probe, usable_segments, would_empty
from etl.sync.request_loop import Received, RequestLoop
from etl.sync.results import Progress, SyncResult
from etl.sync.stop_messages import account_rejected, stop_messages
from etl.sync.user_checks import run_user_checks
from etl.sync.window_log import WindowLog
from etl.sync.writer import DayUpdate, NewMemberStatus, Writer
from etl.transform import parse
from etl.transform.reconcile import add_snapshots, empty_day
from etl.warehouse import checks
from etl.warehouse.checks import CheckFailure
from etl.warehouse.reading import Reader

Statuses = Mapping[SeriesKey, MemberStatus]

MAX_UNCOMMITTED = 2_000
"""Responses received and not yet committed, which are in memory."""


class AccountSync:
    """One sync of one account, from the first request to the result."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        on_progress: Callable[[Progress], None],
        store: SyncStateStore,
        client: Client,
        journal_prefix: Path | None,
        cancelled: threading.Event,
    ) -> None:
        """Without a ``journal_prefix``, responses are safe only once they are committed."""
        self._settings, self._clock, self._on_progress = settings, clock, on_progress
        self._store, self._client = store, client
        self._options = sync_options(settings, clock.now(), store.account.since)
        self._left = usable_segments(journal_prefix, store.account.identity)
        self._load_state()
        self._finished: set[date] = set()
        self._written: set[date] = set()
        self._reattributed: set[date] = set()
        self._is_clock_right = True
        self._counts = RunCounts()
        self._findings = Findings(self._options)
        self._window_log = WindowLog()
        self._started = clock.monotonic()
        missing = planner.missing_days(self._state)
        self._next_number = store.start_run("sync", __version__, self._state.first_day, missing)
        store.add_spot_checks({day: day in self._spot_checks.random for day in sorted(self._spot_checks.days)})
        logging_setup.bind_log_context(account=settings.account, run=store.run)
        self._journal: Journal | None = None
        if journal_prefix:
            header = JournalHeader(settings.account, store.account.identity, store.run, __version__)
            self._journal = Journal(journal_prefix, header, self._left)
        self._loop = RequestLoop(client, settings.concurrency, self._parse, self._journal, cancelled)
        self._writer = Writer(store, self._journal, clock, self._loop.notify)

    def _load_state(self) -> None:
        loaded = load_stored_state(self._store, self._options)
        self._stored, self._days, self._profile = loaded.stored, loaded.days, loaded.profile
        self._stored_statuses, self._spot_checks = loaded.stored_statuses, loaded.spot_checks
        self._saved_traits = loaded.profile.traits
        self._state = planner.start(self._options, loaded.stored)

    def run(self) -> SyncResult:
        """Raises AccountRejectedError, InterruptedRunError and what the database raises."""
        with ExitStack() as stack:
            return self._finish(self._load(stack))

    def _load(self, stack: ExitStack) -> planner.StopReason:
        """Request and commit. The last commit, the checks and the end of the run share one opening of the warehouse."""
        self._writer.start()
        try:
            if self._left:
                self._take_in_left()
            self._writer.submit(self._reattribute(self._stored_statuses), self._new_statuses(self._stored_statuses))
            with self._loop:
                stop_reason = self._request_all()
            if not self._settings.checks_folder:  # the user's checks cannot run while it is open for writing
                stack.enter_context(self._store.ending())
            self._writer.close()
        except KeyboardInterrupt:
            self._writer.stop()
            self._close_run(errors.InterruptedRunError.exit_code, windows_left=0)
            message = f"account {self._settings.account}: interrupted; {self._counts.windows_good} windows are stored"
            raise errors.InterruptedRunError(message, "run it again to continue") from None
        except BaseException:
            self._writer.stop()
            raise
        finally:
            if self._journal:
                self._journal.close()
        return stop_reason

    def _take_in_left(self) -> None:
        """Commit what earlier runs received, before any request, and plan with what is stored then."""
        responses = [response for segment in self._left for response in segment.responses]
        days = {response.window.day for response in responses} - self._stored.without_raw
        committed = {(row.window, row.requested_at) for row in self._store.snapshots(days)}
        received = [one for one in map(self._parse, responses) if one.window.day in days]
        received = [one for one in received if (one.window, one.snapshot.requested_at) not in committed]
        for group, settled in groups_in_order(received, self._options.concurrency):
            self._state = planner.settle(self._state, settled)
            earlier = self._day(group[0].window.day).reconciled.day_state
            before = self._state.members.member_statuses
            snapshots = [self._snapshot(one) for one in group if not would_empty(earlier, one.snapshot)]
            if not snapshots:
                continue
            self._state = replace(self._state, probe=group[0].window if is_probe(group[0]) else None)
            day, statuses = self._add_to_day(snapshots)
            for snapshot in snapshots:
                self._state = planner.apply_snapshot(self._state, snapshot, day.reconciled.day_state)
            updates = [self._update(day, snapshot) for snapshot in snapshots]
            self._writer.submit([*updates, *self._reattribute(before, day.reconciled.day_state.day)], statuses)
        self._writer.flush()
        if self._journal:
            self._journal.committed(segment.number for segment in self._left for _ in segment.responses)
        if finding := describe(self._left, [one.response for one in received], self._store.run):
            self._findings.add(finding)
        self._load_state()

    # ---------------------------------------------------------------- requests

    def _request_all(self) -> planner.StopReason:
        while True:
            if (capacity := self._capacity()) > 0:
                self._state = replace(self._state, retries=self._client.retries)
                self._state, step = planner.next_windows(self._state, capacity)
                self._writer.submit(self._completed_days())
                if isinstance(step, planner.Done):
                    return step.stop_reason
                if isinstance(step, planner.Request):
                    self._loop.send(step.windows, self._unknown_name_codes())
                    continue
            arrivals = self._loop.wait()
            self._apply_responses(arrivals.responses)  # before raising an error, so that none is lost
            if self._state.stop_reason and not self._loop.in_flight:  # the others were cancelled
                self._state = planner.cancel_in_flight(self._state)
            if arrivals.error:
                raise arrivals.error
            self._on_progress(self._progress())

    def _capacity(self) -> int:
        """Windows that may be sent: up to ``concurrency`` in flight, up to MAX_UNCOMMITTED not committed."""
        in_flight = self._loop.in_flight
        uncommitted = in_flight + self._writer.waiting_snapshots
        return min(self._settings.concurrency - in_flight, MAX_UNCOMMITTED - uncommitted)

    def _unknown_name_codes(self) -> frozenset[str]:
        behaviours = self._state.members.unknown_name_behaviours.values()
        return frozenset(behaviour.code for behaviour in behaviours if behaviour.code)

    def _parse(self, response: Response) -> Received:
        """Called from the request threads."""
        offset = self._profile.hour_offset_seconds
        return Received(response, parse.parse_snapshot(response.with_true_time, 0, offset), offset)

    # ---------------------------------------------------------------- responses

    def _apply_responses(self, responses: Sequence[Received]) -> None:
        """Take in responses. Snapshots are numbered in the order of their commits: a kill must not leave a gap."""
        applied = list[tuple[Snapshot, Response]]()
        for group in planner.group_by_day(responses):
            if self._keeps_unreturned_day(group[0]):
                continue
            snapshots = [self._snapshot(received) for received in group]
            self._apply_snapshots(snapshots, [received.segment for received in group])
            applied += zip(snapshots, (received.response for received in group), strict=True)
        for snapshot, response in applied:
            is_expected = planner.is_expected_error(self._state, snapshot)
            self._window_log.write(snapshot, response, is_expected_error=is_expected)

    def _keeps_unreturned_day(self, received: Received) -> bool:
        """True if a spot check came back without the spend that is stored: then the day stays as it is."""
        window = received.response.window
        if not is_no_longer_returned(self._state, self._day(window.day).reconciled.day_state, received.snapshot):
            return False
        self._state = planner.drop_check(self._state, window)
        self._findings.add_unreturned_day(window.day)
        if self._journal and received.segment is not None:
            self._journal.committed([received.segment])
        self._writer.submit(self._completed_days())
        return True

    def _snapshot(self, received: Received) -> Snapshot:
        """The snapshot with its number; parsed again if the account's hour offset was not known then."""
        response, snapshot = received.response, received.snapshot
        if received.hour_offset != self._profile.hour_offset_seconds:
            snapshot = replace(self._parse(response).snapshot, compressed_body=snapshot.compressed_body)
        if skew := response.clock_skew:
            self._is_clock_right = False
            self._findings.add_clock_skew(skew)
        snapshot = replace(snapshot, number=self._next_number)
        self._next_number += 1
        profile = self._profile.learn(snapshot)
        if profile.hour_offset_seconds and self._profile.hour_offset_seconds is None:
            self._writer.flush()  # days without any record were stored with hours that begin at :00
            self._store.set_hour_offset(profile.hour_offset_seconds)
            apply_profile(profile, self._days.values())
        self._profile = profile
        return snapshot

    def _apply_snapshots(self, snapshots: Sequence[Snapshot], segments: Sequence[int | None]) -> None:
        """Apply snapshots of one day and reconcile it once."""
        before = self._state.members.member_statuses
        day, new_statuses = self._add_to_day(snapshots)
        updates = []
        for snapshot, segment in zip(snapshots, segments, strict=True):
            self._state = planner.apply_snapshot(self._state, snapshot, day.reconciled.day_state)
            is_expected = planner.is_expected_error(self._state, snapshot)
            self._counts.add(snapshot, day.reconciled.day_state, is_expected_error=is_expected)
            self._findings.add_snapshot(snapshot)
            updates += [replace(self._update(day, snapshot), segment=segment), *self._completed_days()]
        self._check_neighbours(day)
        self._writer.submit([*updates, *self._reattribute(before, day.reconciled.day_state.day)], new_statuses)
        if self._state.stop_reason:
            self._client.stop()

    def _check_neighbours(self, day: LoadedDay) -> None:
        """Read the neighbours of a final day again if it has changed."""
        for neighbour in planner.neighbours_to_check(self._state, day.stored.day_state, day.reconciled.day_state):
            self._state = planner.open_spot_check(self._state, self._day(neighbour).reconciled.day_state)

    def _add_to_day(self, snapshots: Sequence[Snapshot]) -> tuple[LoadedDay, list[NewMemberStatus]]:
        """Add snapshots to their day; return it and what they show about names."""
        day = self._day(snapshots[0].window.day)
        day_state, new_statuses = day.reconciled.day_state, list[NewMemberStatus]()
        for snapshot in snapshots:
            earlier = self._state.members.member_statuses
            self._state = planner.classify_name(self._state, snapshot, day_state)
            new_statuses += self._new_statuses(earlier, snapshot.number)
        members = self._state.members
        self._profile = self._profile.with_members(members.member_statuses, members.unknown_name_behaviours)
        inputs = day.reconciled.inputs.with_snapshots(snapshots)
        if day.profile is self._profile:
            inputs = self._profile.apply_to_new(inputs, {snapshot.window.series for snapshot in snapshots})
        else:
            inputs, day.profile = self._profile.apply_to(inputs), self._profile
        day.reconciled = add_snapshots(day.reconciled, inputs)
        return day, new_statuses

    def _day(self, day: date) -> LoadedDay:
        """A day in memory, loaded if the warehouse has it."""
        if day not in self._days and (day in self._stored.days or day in self._finished):
            if day in self._reattributed or day in self._finished:
                self._writer.flush()  # commit first, so that loading sees every update
                self._reattributed.clear()
            self._days |= load_days(self._store, [day], self._profile)
        return self._days.setdefault(day, LoadedDay(empty_day(day), empty_day(day)))

    # ---------------------------------------------------------------- updates

    def _update(self, day: LoadedDay, snapshot: Snapshot | None = None, is_last: bool = False) -> DayUpdate:
        day_state = day.reconciled.day_state
        traits = self._profile.traits._replace(unknown_name_behaviours=self._state.members.unknown_name_behaviours)
        new_traits, self._saved_traits = (traits if traits != self._saved_traits else None), traits
        self._written.add(day_state.day)
        row = CoverageRow(day_state, self._status(day_state))
        return DayUpdate(row, day.reconciled, day.stored, snapshot, new_traits, is_last)

    def _completed_days(self) -> list[DayUpdate]:
        """The last updates of the days that the planner has just completed; they are no longer kept in memory."""
        self._finished.update(self._state.completed_days)
        days = [self._day(day) for day in self._state.completed_days]
        for day in days:
            self._findings.add_day(day.reconciled.day_state, day.stored.day_state)
            del self._days[day.reconciled.day_state.day]
        return [self._update(day, is_last=True) for day in days]

    def _status(self, day_state: DayState) -> str:
        """The first that applies: failed, missing, open or final."""
        if day_state.is_failed:
            return "failed"
        if day_state.total_requested_at is None:
            return "missing"
        is_settled = day_state.day in self._finished or day_state.day in self._stored.final
        is_read_late = day_state.read_since(self._options.finalizes_at(day_state.day))
        return "final" if is_settled and self._is_clock_right and is_read_late else "open"

    def _new_statuses(self, before: Statuses, decided_by: int | None = None) -> list[NewMemberStatus]:
        statuses = self._state.members.member_statuses
        return [(one, status, decided_by) for one, status in statuses.items() if before.get(one) is not status]

    def _reattribute(self, before: Statuses, except_day: date | None = None) -> list[DayUpdate]:
        """Updates of all days with a member that has just started or stopped counting, except ``except_day``."""
        earlier = replace(self._profile, member_statuses=before)
        members = before.keys() | self._profile.member_statuses.keys()
        changed = sorted(series for series in members if earlier.counts(series) != self._profile.counts(series))
        if not changed:
            return []
        self._writer.flush()  # commit first, so that loading sees every snapshot
        apply_profile(self._profile, self._days.values())
        in_memory = [loaded for day, loaded in self._days.items() if day != except_day]
        skipped = {*self._days, *self._stored.without_raw, except_day}
        others = [day for day in self._store.days_with_members(changed) if day not in skipped]
        loaded = list(load_days(self._store, others, self._profile).values())
        self._reattributed = {*others}
        for day in (*in_memory, *loaded):
            self._state = planner.apply_reconciled_day(self._state, day.reconciled.day_state)
        for day in loaded:
            self._findings.add_day(day.reconciled.day_state)
        return [self._update(day) for day in in_memory] + [self._update(day, is_last=True) for day in loaded]

    # ---------------------------------------------------------------- progress and end

    def _progress(self) -> Progress:
        state, done = self._state, len(self._finished)
        days = done + state.pending_count + sum(day not in self._finished for day in state.open_days)
        older, elapsed = planner.days_before_known_range(state), self._clock.monotonic() - self._started
        searched = state.days_without_spend
        can_estimate = 0 < done < days + older and (not older or searched > planner.MAX_ACTIVE_GAP_DAYS)
        return Progress(
            day=max(state.open_days, default=None),
            days_done=done,
            days_planned=None if older else days,
            days_without_spend=searched if older else 0,
            empty_days=searched + older,
            requests=self._client.requests,
            seconds=elapsed,
            hourly_values=self._writer.hourly_values,
            money=self._counts.money,
            seconds_left=elapsed / done * (days + older - done) if can_estimate else None,
        )

    def _finish(self, stop_reason: planner.StopReason) -> SyncResult:
        self._findings.add_end(self._state, stop_reason, self._counts.requested)
        if self._settings.balance and stop_reason is planner.StopReason.DONE:
            read_balance(self._client, self._store, self._findings, self._clock.now())
        user_checks = run_user_checks(self._settings, self._clock)
        with self._store.reading() as reader:
            failures = (*self._run_checks(reader), *user_checks)
            self._findings.add_checks(failure.finding for failure in failures)
            return self._end(stop_reason)

    def _end(self, stop_reason: planner.StopReason) -> SyncResult:
        retention = self._settings.raw_retention_days
        if retention is not None:
            self._store.prune_raw_responses(self._options.today - timedelta(days=retention))
        is_done = stop_reason is planner.StopReason.DONE
        is_rejected = stop_reason is planner.StopReason.ACCOUNT_REJECTED
        is_complete = is_done and not self._counts.windows_failed
        exit_code = errors.most_severe(
            [3 if is_rejected else 0, 5 if self._findings.is_blocking else 0, 0 if is_complete else 1]
        )
        windows_left = 0 if is_done else self._state.days_left
        changed = self._close_run(exit_code, windows_left)
        if is_rejected:
            raise account_rejected(self._state.stopped_by, self._settings.account, self._client.requests)
        return SyncResult(
            account=self._settings.account,
            exit_code=exit_code,
            run=self._store.run,
            seconds=round(self._clock.monotonic() - self._started, 3),
            windows_left=windows_left,
            hourly_values_changed=changed,
            outside=self._counts.outside,
            lower_bound=self._counts.lower_bound,
            findings=self._findings.all,
            messages=stop_messages(stop_reason, self._state, self._counts.first_failure),
            **self._counts.days_read(),
            **self._counts.numbers(self._client, self._writer),
        )

    def _run_checks(self, reader: Reader) -> Sequence[CheckFailure]:
        """Check the days written in this run, or all days unless the checks of the previous run passed."""
        since = min(self._written, default=self._options.today) if self._store.last_run_passed else date.min
        return checks.run(reader, self._clock.now(), self._settings.account, since).failures

    def _close_run(self, exit_code: int, windows_left: int) -> int:
        results = {
            **self._counts.numbers(self._client, self._writer),
            **self._counts.days_read(),
            "windows_left": windows_left,
            "out_of_window": self._counts.outside,
        }
        return self._store.finish_run(exit_code, results, self._findings.all)
