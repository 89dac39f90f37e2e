"""What a run tells a person about the numbers: each kind once, kept with the run, shown at its end."""

import difflib
from collections.abc import Collection, Iterable
from datetime import date, timedelta
from decimal import Decimal

from etl.extract import walk
from etl.records import Belief, Finding, Reading, Severity, Verdict
from etl.transform.validate import OFF_GRID

SHOWN = 5
"""Days or names that a finding spells out."""


class Findings:
    """What one run noticed. Notes say what is so; warnings want a person; a blocking one says not to trust the numbers yet."""

    def __init__(self, wishes: walk.Wishes) -> None:
        self._wishes = wishes
        self._skew: timedelta | None = None
        self._rests: dict[date, Decimal] = {}
        self._contradicted: set[date] = set()
        self._off_grid: set[date] = set()
        self._refunds = Decimal(0)
        self._end: list[Finding] = []

    def of_clock(self, off: timedelta) -> None:
        """This machine's clock and the server's are ``off`` each other."""
        self._skew = off

    def of_reading(self, reading: Reading) -> None:
        """A window that came."""
        self._refunds += sum((record.money for record in reading.records if record.money < 0), Decimal(0))
        if reading.code == OFF_GRID:
            self._off_grid.add(reading.window.day)

    def of_day(self, verdict: Verdict) -> None:
        """A day the walk is done with."""
        if not verdict.closed or verdict.is_failed or self._wishes.totals_only:
            return
        if verdict.contradicted:
            self._contradicted.add(verdict.day)
        elif not verdict.explained:
            self._rests[verdict.day] = verdict.rest.money

    def of_end(self, state: walk.State, why: walk.Why) -> None:
        """What only the end of a run can say."""
        doubted = {name for name, belief in state.beliefs.items() if belief is Belief.DOUBTED} if state.doubts_names else set()
        believed = [name for name, belief in state.beliefs.items() if belief is Belief.BELIEVED]
        self._end += [self._doubtful(name, believed) for name in self._wishes.queues if name in doubted]
        if unasked := [name for name in self._wishes.queues if name not in state.beliefs]:
            message = f"not asked, for no closed day has money that the known queues leave unexplained: {_some(unasked)}"
            self._end.append(Finding("every queue named was asked", Severity.NOTE, message))
        if state.found_no_spend and why is walk.Why.DONE:
            days = self._wishes.empty_days * walk.NO_SPEND_FACTOR
            message = f"no spend was found in the last {days} days; --since DATE looks further back"
            self._end.append(Finding("spend was found", Severity.WARNING, message))

    @property
    def is_blocking(self) -> bool:
        return bool(self._contradicted)

    @property
    def all(self) -> tuple[Finding, ...]:
        return tuple(self._found())

    def _found(self) -> Iterable[Finding]:
        if self._contradicted:
            yield Finding(
                "queues are within the total",
                Severity.BLOCKING,
                f"the queues add up to more than the total, though both were asked twice, on {_some(self._contradicted)}; "
                "the money of those hours stays (unattributed) until a later answer fits",
                max(self._contradicted),
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
                f"answers for {_some(self._off_grid)} count their hours from another minute than the account's; they failed",
                max(self._off_grid),
            )
        if self._rests:
            money = sum(self._rests.values(), Decimal(0))
            yield Finding(
                "queues explain the total",
                Severity.NOTE,
                f"{money:f} US dollars on {_some(self._rests)} are in no known queue and stay (unattributed); if you know the "
                "queue's name, add it with --queue NAME",
                max(self._rests),
            )
        if self._refunds:
            message = f"negative money came, as for refunds: {self._refunds:f} US dollars"
            yield Finding("money is not negative", Severity.NOTE, message)
        yield from self._end

    def _doubtful(self, name: str, believed: Collection[str]) -> Finding:
        near = difflib.get_close_matches(name, {*believed, *self._wishes.catalogue} - {name}, n=2, cutoff=0.7)
        meant = f"did you mean {' or '.join(map(repr, near))}? If" if near else "if"
        return Finding(
            "every queue named is believed",
            Severity.WARNING,
            f"queue {name!r} has only ever answered with the account's total, so it may be misspelt and its money stays "
            f"(unattributed); {meant} the name is right, list it under trusted_queues",
            queue=name,
        )


def _some(found: Iterable[date] | Iterable[str]) -> str:
    """Days, the newest first, or names: a few of them, and how many there are."""
    words = [str(one) for one in found]
    if words and words[0][:4].isdigit():
        words.sort(reverse=True)
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more} more" if more > 0 else "")
