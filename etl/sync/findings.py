"""Collect the findings of a run, at most one per kind. They are stored with the run."""

import difflib
from collections.abc import Iterable, Iterator, Sequence, Set
from datetime import date, timedelta
from decimal import Decimal

from etl.extract import planner
from etl.models import SPLIT_DIMENSIONS, DayState, Dimension, Finding, MemberStatus, SeriesKey, Severity, Snapshot
from etl.transform.parse import OFF_GRID

_TRUST_SETTING = {Dimension.QUEUE: "trusted_queues", Dimension.APP: "trusted_soft_ids", Dimension.IP: "trusted_ips"}

MAX_LISTED = 5
"""Days or names that a finding lists."""


class Findings:
    """What one run noticed."""

    def __init__(self, options: planner.SyncOptions) -> None:
        self._options = options
        self._clock_skew: timedelta | None = None
        self._unattributed: dict[date, Decimal] = {}
        self._emptied: dict[date, Decimal] = {}
        self._changed: dict[date, Decimal] = {}
        self._unreturned: set[date] = set()
        self._off_grid: set[date] = set()
        self._at_end: list[Finding] = []

    def add_clock_skew(self, difference: timedelta) -> None:
        self._clock_skew = difference

    def add_unreturned_day(self, day: date) -> None:
        self._unreturned.add(day)

    def add_snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.code == OFF_GRID:
            self._off_grid.add(snapshot.window.day)

    def add_day(self, day_state: DayState, before: DayState | None = None) -> None:
        """Add a completed or reattributed day; ``before`` is its state when the run began."""
        if before and before.is_closed and before.has_spend and not day_state.has_spend:
            self._emptied[day_state.day] = before.total.money
        elif before and self._was_final(before) and before.total_by_hour.spent != day_state.total_by_hour.spent:
            self._changed[day_state.day] = day_state.total.money - before.total.money
        if not day_state.is_closed or day_state.is_failed or self._options.totals_only:
            return
        self._unattributed.pop(day_state.day, None)
        if not day_state.is_explained and Dimension.QUEUE not in day_state.over_allocated_dimensions:
            self._unattributed[day_state.day] = day_state.unattributed.money

    def _was_final(self, before: DayState) -> bool:
        read_at = before.total_requested_at
        is_old = not self._options.is_in_lookback(before.day)
        return is_old and read_at is not None and read_at >= self._options.finalizes_at(before.day)

    def add_end(self, state: planner.PlannerState, stop_reason: planner.StopReason, requested: Set[SeriesKey]) -> None:
        """Add findings that are known only at the end; ``requested`` are the series of the run's requests."""
        self._at_end += self._member_findings(state.members)
        if stop_reason is not planner.StopReason.DONE:
            return
        if state.days_without_raw:
            message = (
                f"{state.days_without_raw} days cannot be split by the new names, because their raw "
                "responses were deleted (raw_retention_days)"
            )
            self._at_end.append(Finding("every name listed was asked", Severity.INFO, message))
        seen = requested | state.members.member_statuses.keys()
        missing = [one for one in self._options.configured if one not in seen]
        missing = [one for one in missing if one.dimension not in state.failed_probes]
        if missing and not self._options.totals_only:
            were = "was" if len(missing) == 1 else "were"
            message = f"{_sample(map(str, missing))} {were} not requested: all closed days are already fully explained"
            self._at_end.append(Finding("every name listed was asked", Severity.INFO, message))
        if state.found_no_spend:
            days = self._options.empty_days * planner.NO_SPEND_FACTOR
            message = f"no spend in the last {days} days; --since DATE looks further back"
            self._at_end.append(Finding("spend was found", Severity.WARNING, message))

    def add(self, finding: Finding) -> None:
        self._at_end.append(finding)

    def add_checks(self, findings: Iterable[Finding]) -> None:
        self._at_end += findings

    @property
    def is_blocking(self) -> bool:
        return any(finding.severity is Severity.BLOCKING for finding in self.all)

    @property
    def all(self) -> tuple[Finding, ...]:
        return (*self._day_findings(), *self._at_end)

    def _day_findings(self) -> Iterator[Finding]:
        if self._emptied:
            money = sum(self._emptied.values(), Decimal(0))
            yield Finding(
                "closed days keep their spend",
                Severity.BLOCKING,
                f"the API, requested twice, now returns nothing for {_format_days(self._emptied)}, where "
                f"{money:f} US dollars were stored. The days are now empty; spending_revisions has the old values. "
                "If the API no longer has these days, set a shorter --lookback so that no other day is emptied",
                max(self._emptied),
            )
        yield from self._check_findings()
        if self._clock_skew is not None:
            seconds = round(abs(self._clock_skew.total_seconds()))
            yield Finding(
                "the clock is right",
                Severity.WARNING,
                f"this machine's clock and the server's differ by {seconds} seconds; "
                "no day becomes final until they agree",
            )
        if self._off_grid:
            yield Finding(
                "hours begin where they always began",
                Severity.WARNING,
                f"responses for {_format_days(self._off_grid)} have hours that begin at another minute than the "
                "account's; these windows failed",
                max(self._off_grid),
            )
        if self._unattributed:
            money = sum(self._unattributed.values(), Decimal(0))
            yield Finding(
                "queues explain the total",
                Severity.INFO,
                f"{money:f} US dollars on {_format_days(self._unattributed)} belong to no known queue and stay "
                "(unattributed); if you know the queue's name, add it with --queue NAME",
                max(self._unattributed),
            )

    def _check_findings(self) -> Iterator[Finding]:
        """What spot checks of final days found."""
        if self._changed:
            money = sum(self._changed.values(), Decimal(0))
            yield Finding(
                "final days stay as they were",
                Severity.WARNING,
                f"the API changed {_format_days(self._changed)} after they were final, by {money:+f} US dollars. "
                "The new values are loaded, the days around them were read again, and spending_revisions has the old "
                "values. A longer --lookback finds such changes sooner",
                max(self._changed),
            )
        if self._unreturned:
            yield Finding(
                "final days are still returned",
                Severity.INFO,
                f"the API no longer returns the spend of {_format_days(self._unreturned)}, which were to be checked; "
                "the stored values stay",
                max(self._unreturned),
            )

    def _member_findings(self, members: planner.Members) -> Iterator[Finding]:
        """Members listed by the user that are refused or unverified, or never had spend."""
        for dimension in SPLIT_DIMENSIONS:
            listed = [series for series in self._options.configured if series.dimension is dimension]
            if refused := [series for series in listed if members.is_refused(series)]:
                yield self._refused(refused, members)
        for series in self._options.configured:
            status = members.member_statuses.get(series)
            queue = series.member if series.dimension is Dimension.QUEUE else None
            if status is MemberStatus.UNVERIFIED and members.needs_verification(series.dimension):
                message = (
                    f"{series} has only ever returned the account's total, so it may be misspelled and its money stays "
                    f"(unattributed){self._did_you_mean(series, members)}; if it is right, list it under "
                    f"{_TRUST_SETTING[series.dimension]}"
                )
                yield Finding("every name listed is believed", Severity.WARNING, message, queue=queue)
            elif status is MemberStatus.VERIFIED and series not in members.active_periods:
                if not (did_you_mean := self._did_you_mean(series, members)):
                    continue
                message = f"{series} was requested and never had spend{did_you_mean}"
                yield Finding("every queue listed has had spend", Severity.INFO, message, queue=queue)

    def _refused(self, refused: Sequence[SeriesKey], members: planner.Members) -> Finding:
        did_you_mean = self._did_you_mean(refused[0], members) if len(refused) == 1 else ""
        message = (
            f"the API refuses {_sample(map(str, refused))}{did_you_mean}; stored values stay, and they are requested "
            "again only if they are named on the command line"
        )
        return Finding("every name listed is known to the service", Severity.WARNING, message)

    def _did_you_mean(self, series: SeriesKey, members: planner.Members) -> str:
        """Suggest known queues, or queues with spend, with a similar name; empty if there are none."""
        known = self._options.known_queues
        if series.dimension is not Dimension.QUEUE or series.member is None or series.member in known:
            return ""
        active = {one.member or "" for one in members.active_periods if one.dimension is Dimension.QUEUE}
        similar = difflib.get_close_matches(series.member, {*known, *active} - {series.member}, n=2, cutoff=0.7)
        return f"; did you mean {' or '.join(map(repr, similar))}?" if similar else ""


def _format_days(days: Iterable[date]) -> str:
    return _sample(map(str, sorted(days, reverse=True)))


def _sample(texts: Iterable[str]) -> str:
    listed = list(texts)
    more = len(listed) - MAX_LISTED
    return ", ".join(listed[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
