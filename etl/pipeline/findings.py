"""What a run tells a person about the numbers: each kind once, kept with the run, shown at its end."""

import difflib
from collections.abc import Iterable, Sequence, Set
from datetime import date, timedelta
from decimal import Decimal

from etl.extract import walk
from etl.records import CUTS, Belief, Cut, Filter, Finding, Reading, Severity, Verdict
from etl.transform.validate import OFF_GRID

_TRUSTED = {Cut.QUEUE: "trusted_queues", Cut.APP: "trusted_soft_ids", Cut.IP: "trusted_ips"}

SHOWN = 5
"""Days or names that a finding spells out."""


class Findings:
    """What one run noticed. Notes say what is so; warnings want a person; a blocking one says not to trust the numbers yet."""

    def __init__(self, wishes: walk.Wishes) -> None:
        self._wishes = wishes
        self._skew: timedelta | None = None
        self._rests: dict[date, Decimal] = {}
        self._emptied: dict[date, Decimal] = {}
        self._off_grid: set[date] = set()
        self._end: list[Finding] = []

    def of_clock(self, off: timedelta) -> None:
        """This machine's clock and the server's are ``off`` each other."""
        self._skew = off

    def of_reading(self, reading: Reading) -> None:
        """A window that came."""
        if reading.code == OFF_GRID:
            self._off_grid.add(reading.window.day)

    def of_day(self, verdict: Verdict, before: Verdict | None = None) -> None:
        """A day the walk is done with, or that was folded anew; ``before``: as it was held when the run began."""
        if before and before.closed and before.has_spend and not verdict.has_spend:
            self._emptied[verdict.day] = before.total.money
        if not verdict.closed or verdict.is_failed or self._wishes.totals_only:
            return
        self._rests.pop(verdict.day, None)
        if not verdict.explained and Cut.QUEUE not in verdict.contradicted:
            self._rests[verdict.day] = verdict.rest.money

    def of_end(self, state: walk.State, why: walk.Why, asked: Set[Filter]) -> None:
        """What only the end of a run can say; ``asked`` are the filters it asked for."""
        self._end += self._of_names(state.names)
        if state.unfilled and why is walk.Why.DONE:
            message = (
                f"{state.unfilled} days stay without names they were never asked for: their answers were dropped (keep_answers)"
            )
            self._end.append(Finding("every name listed was asked", Severity.NOTE, message))
        met = asked | state.names.beliefs.keys()
        unasked = [filter for filter in self._wishes.named if filter not in met and filter.cut not in state.probes_failed]
        if unasked and why is walk.Why.DONE and not self._wishes.totals_only:
            message = f"not asked, for no closed day has money that what was asked leaves unexplained: {_some(map(str, unasked))}"
            self._end.append(Finding("every name listed was asked", Severity.NOTE, message))
        if state.found_no_spend and why is walk.Why.DONE:
            days = self._wishes.empty_days * walk.NO_SPEND_FACTOR
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
                f"the service, asked twice, now gives nothing for {_days(self._emptied)}, which held {money:f} US dollars; that "
                "is booked, and spending_revisions keeps what was held. If it has forgotten these days, a shorter --lookback "
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
                f"answers for {_days(self._off_grid)} count their hours from another minute than the account's; they failed",
                max(self._off_grid),
            )
        if self._rests:
            money = sum(self._rests.values(), Decimal(0))
            yield Finding(
                "queues explain the total",
                Severity.NOTE,
                f"{money:f} US dollars on {_days(self._rests)} are in no known queue and stay (unattributed); if you know the "
                "queue's name, add it with --queue NAME",
                max(self._rests),
            )
        yield from self._end

    def _of_names(self, names: walk.Names) -> Iterable[Finding]:
        """Names that the user listed and that cannot be booked, or never had anything to book."""
        for cut in CUTS:
            if refused := [filter for filter in self._wishes.named if filter.cut is cut and names.is_closed(filter)]:
                yield self._refused(refused, names)
        for filter in self._wishes.named:
            belief = names.beliefs.get(filter)
            if belief is Belief.DOUBTED and names.doubts(filter.cut):
                yield self._of_name(
                    "every name listed is believed",
                    Severity.WARNING,
                    filter,
                    "has only ever answered with the account's total, so it may be mistyped and its money stays (unattributed)",
                    f"if it is right, list it under {_TRUSTED[filter.cut]}",
                    names,
                )
            elif belief is Belief.BELIEVED and filter.cut is Cut.QUEUE and filter not in names.spells and self._near(filter, names):
                yield self._of_name(
                    "every queue listed has had spend", Severity.NOTE, filter, "was asked and never had spend", "", names
                )

    def _refused(self, refused: Sequence[Filter], names: walk.Names) -> Finding:
        """Of one cut: what its reader can do is the same for all."""
        near = self._near(refused[0], names) if len(refused) == 1 else []
        meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        message = (
            f"the service refuses {_some(map(str, refused))}{meant}; what is held stays, they are not asked again unless they are "
            "named on the command line, and the rest of the account goes on"
        )
        return Finding("every name listed is known to the service", Severity.WARNING, message)

    def _of_name(self, check: str, severity: Severity, filter: Filter, so: str, remedy: str, names: walk.Names) -> Finding:
        near = self._near(filter, names)
        meant = f"did you mean {' or '.join(map(repr, near))}?" if near else ""
        message = "; ".join(part for part in (f"{filter} {so}", meant, remedy) if part)
        return Finding(check, severity, message, queue=filter.member if filter.cut is Cut.QUEUE else None)

    def _near(self, filter: Filter, names: walk.Names) -> list[str]:
        """Queues with spend, or of the catalogue, that are spelled almost alike."""
        if filter.cut is not Cut.QUEUE or filter.member is None or filter.member in self._wishes.catalogue:
            return []
        known = {*self._wishes.catalogue, *(other.member or "" for other in names.spells if other.cut is Cut.QUEUE)}
        return difflib.get_close_matches(filter.member, known - {filter.member}, n=2, cutoff=0.7)


def _days(found: Iterable[date]) -> str:
    """A few of some days, the newest first, and how many there are."""
    return _some(map(str, sorted(found, reverse=True)))


def _some(found: Iterable[str]) -> str:
    words = list(found)
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more} more" if more > 0 else "")
