"""What a run tells a person about the numbers: each kind once, kept with the run, shown at its end."""

import difflib
from collections.abc import Iterable, Sequence, Set
from datetime import date, timedelta
from decimal import Decimal

from etl.extract import planner
from etl.models import SPLIT_DIMENSIONS, DayState, Dimension, Finding, MemberStatus, SeriesKey, Severity, Snapshot
from etl.transform.parse import OFF_GRID

_TRUSTED = {Dimension.QUEUE: "trusted_queues", Dimension.APP: "trusted_soft_ids", Dimension.IP: "trusted_ips"}

SHOWN = 5
"""Days or names that a finding spells out."""


class Findings:
    """What one run noticed. Notes say what is so; warnings want a person; a blocking one says not to trust the
    numbers yet."""

    def __init__(self, options: planner.SyncOptions) -> None:
        self._wishes = options
        self._skew: timedelta | None = None
        self._rests: dict[date, Decimal] = {}
        self._emptied: dict[date, Decimal] = {}
        self._off_grid: set[date] = set()
        self._end: list[Finding] = []

    def of_clock(self, off: timedelta) -> None:
        """This machine's clock and the server's are ``off`` each other."""
        self._skew = off

    def of_reading(self, snapshot: Snapshot) -> None:
        """A window that came."""
        if snapshot.code == OFF_GRID:
            self._off_grid.add(snapshot.window.day)

    def of_day(self, day_state: DayState, before: DayState | None = None) -> None:
        """A day the walk is done with, or that was folded anew; ``before``: as it was held when the run began."""
        if before and before.is_closed and before.has_spend and not day_state.has_spend:
            self._emptied[day_state.day] = before.total.money
        if not day_state.is_closed or day_state.is_failed or self._wishes.totals_only:
            return
        self._rests.pop(day_state.day, None)
        if not day_state.is_explained and Dimension.QUEUE not in day_state.over_allocated_dimensions:
            self._rests[day_state.day] = day_state.unattributed.money

    def of_end(self, state: planner.PlannerState, stop_reason: planner.StopReason, asked: Set[SeriesKey]) -> None:
        """What only the end of a run can say; ``asked`` are the filters it asked for."""
        self._end += self._of_names(state.members)
        if state.days_without_raw and stop_reason is planner.StopReason.DONE:
            message = (
                f"{state.days_without_raw} days stay without names they were never asked for: "
                "their answers were dropped (raw_retention_days)"
            )
            self._end.append(Finding("every name listed was asked", Severity.NOTE, message))
        met = asked | state.members.member_statuses.keys()
        unasked = [
            series
            for series in self._wishes.configured
            if series not in met and series.dimension not in state.failed_probes
        ]
        if unasked and stop_reason is planner.StopReason.DONE and not self._wishes.totals_only:
            message = (
                "not asked, for no closed day has money that what was asked leaves unexplained: "
                f"{_some(map(str, unasked))}"
            )
            self._end.append(Finding("every name listed was asked", Severity.NOTE, message))
        if state.found_no_spend and stop_reason is planner.StopReason.DONE:
            days = self._wishes.empty_days * planner.NO_SPEND_FACTOR
            message = f"no spend was found in the last {days} days; --since DATE looks further back"
            self._end.append(Finding("spend was found", Severity.WARNING, message))

    def of_checks(self, found: Iterable[Finding]) -> None:
        """What the checks found in the warehouse."""
        self._end += found

    @property
    def is_blocking(self) -> bool:
        return any(finding.severity is Severity.BLOCKING for finding in self._found())

    @property
    def all(self) -> tuple[Finding, ...]:
        return tuple(self._found())

    def _found(self) -> Iterable[Finding]:
        if self._emptied:
            money = sum(self._emptied.values(), Decimal(0))
            yield Finding(
                "closed days keep their spend",
                Severity.BLOCKING,
                f"the service, asked twice, now gives nothing for {_days(self._emptied)}, which held {money:f} "
                "US dollars; that "
                "is booked, and spending_revisions keeps what was held. If it has forgotten these days, a "
                "shorter --lookback "
                "leaves those that follow as they are",
                max(self._emptied),
            )
        if self._skew is not None:
            yield Finding(
                "the clock is right",
                Severity.WARNING,
                f"this machine's clock and the server's differ by {round(abs(self._skew.total_seconds()))} seconds; "
                "no day becomes final until they agree",
            )
        if self._off_grid:
            yield Finding(
                "hours begin where they always began",
                Severity.WARNING,
                f"answers for {_days(self._off_grid)} count their hours from another minute than the account's; "
                "they failed",
                max(self._off_grid),
            )
        if self._rests:
            money = sum(self._rests.values(), Decimal(0))
            yield Finding(
                "queues explain the total",
                Severity.NOTE,
                f"{money:f} US dollars on {_days(self._rests)} are in no known queue and stay (unattributed); if "
                "you know the "
                "queue's name, add it with --queue NAME",
                max(self._rests),
            )
        yield from self._end

    def _of_names(self, names: planner.Members) -> Iterable[Finding]:
        """Names that the user listed and that cannot be booked, or never had anything to book."""
        for dimension in SPLIT_DIMENSIONS:
            if refused := [
                series
                for series in self._wishes.configured
                if series.dimension is dimension and names.is_refused(series)
            ]:
                yield self._refused(refused, names)
        for series in self._wishes.configured:
            member_status = names.member_statuses.get(series)
            if member_status is MemberStatus.UNVERIFIED and names.needs_verification(series.dimension):
                yield self._of_name(
                    "every name listed is believed",
                    Severity.WARNING,
                    series,
                    "has only ever answered with the account's total, so it may be mistyped and its money stays "
                    "(unattributed)",
                    f"if it is right, list it under {_TRUSTED[series.dimension]}",
                    names,
                )
            elif (
                member_status is MemberStatus.VERIFIED
                and series.dimension is Dimension.QUEUE
                and series not in names.active_periods
                and self._near(series, names)
            ):
                yield self._of_name(
                    "every queue listed has had spend",
                    Severity.NOTE,
                    series,
                    "was asked and never had spend",
                    "",
                    names,
                )

    def _refused(self, refused: Sequence[SeriesKey], names: planner.Members) -> Finding:
        """Of one cut: what its reader can do is the same for all."""
        near = self._near(refused[0], names) if len(refused) == 1 else []
        meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        message = (
            f"the service refuses {_some(map(str, refused))}{meant}; what is held stays, they are not asked "
            "again unless they are "
            "named on the command line, and the rest of the account goes on"
        )
        return Finding("every name listed is known to the service", Severity.WARNING, message)

    def _of_name(
        self, check: str, severity: Severity, series: SeriesKey, so: str, hint: str, names: planner.Members
    ) -> Finding:
        near = self._near(series, names)
        meant = f"did you mean {' or '.join(map(repr, near))}?" if near else ""
        message = "; ".join(part for part in (f"{series} {so}", meant, hint) if part)
        return Finding(check, severity, message, queue=series.member if series.dimension is Dimension.QUEUE else None)

    def _near(self, series: SeriesKey, names: planner.Members) -> list[str]:
        """Queues with spend, or of the catalogue, that are spelled almost alike."""
        if (
            series.dimension is not Dimension.QUEUE
            or series.member is None
            or series.member in self._wishes.known_queues
        ):
            return []
        known = {
            *self._wishes.known_queues,
            *(other.member or "" for other in names.active_periods if other.dimension is Dimension.QUEUE),
        }
        return difflib.get_close_matches(series.member, known - {series.member}, n=2, cutoff=0.7)


def _days(found: Iterable[date]) -> str:
    """A few of some days, the newest first, and how many there are."""
    return _some(map(str, sorted(found, reverse=True)))


def _some(found: Iterable[str]) -> str:
    words = list(found)
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more} more" if more > 0 else "")
