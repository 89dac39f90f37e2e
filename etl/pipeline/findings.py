"""What a run tells a person about the numbers: each finding once, kept with the run, shown at its end."""

import logging
from datetime import date, timedelta
from decimal import Decimal

from etl.extract import walk
from etl.records import Belief, Finding, Severity, Verdict

log = logging.getLogger(__name__)


class Findings:
    """The findings of one run, in the order they were found."""

    def __init__(self, wishes: walk.Wishes) -> None:
        self._wishes = wishes
        self._found: dict[tuple[str, date | None, str | None], Finding] = {}
        self._rests: dict[date, Decimal] = {}

    @property
    def all(self) -> tuple[Finding, ...]:
        return tuple(self._found.values())

    @property
    def is_blocking(self) -> bool:
        return any(finding.severity is Severity.BLOCKING for finding in self._found.values())

    def of_day(self, verdict: Verdict) -> None:
        """A day the walk is done with."""
        if not verdict.closed or verdict.is_failed:
            return
        if verdict.contradicted:
            self._add(
                Finding(
                    "queues are within the total",
                    Severity.BLOCKING,
                    f"{verdict.day}: the queues add up to more than the total, though both were asked twice; "
                    "the money of those hours stays (unattributed) until a later answer fits",
                    verdict.day,
                )
            )
        elif not verdict.explained and not self._wishes.totals_only:
            self._rests[verdict.day] = verdict.rest.money

    def of_clock(self, off: timedelta) -> None:
        """This machine's clock and the server's are ``off`` each other."""
        seconds = round(abs(off.total_seconds()))
        self._add(
            Finding(
                "the clock is right",
                Severity.WARNING,
                f"this machine's clock and the server's differ by {seconds} seconds; no day becomes final until they agree",
            )
        )

    def of_end(self, state: walk.State, why: walk.Why) -> None:
        """What only the end of a run can say."""
        if self._rests:
            newest, money = max(self._rests), sum(self._rests.values(), Decimal(0))
            self._add(
                Finding(
                    "queues explain the total",
                    Severity.WARNING,
                    f"{money:f} US dollars on {len(self._rests)} days, the newest {newest}, are in no known queue and stay "
                    "(unattributed); if you know the queue's name, add it with --queue NAME",
                )
            )
        for name, belief in state.beliefs.items():
            if belief is Belief.DOUBTED and state.doubts_names:
                self._add(
                    Finding(
                        "every queue named is believed",
                        Severity.WARNING,
                        f"queue {name!r} has only ever answered with the account's total, so it may be misspelt and its money "
                        "stays (unattributed); if the name is right, list it under trusted_queues",
                        queue=name,
                    )
                )
        if state.found_no_spend and why is walk.Why.DONE:
            days = self._wishes.empty_days * walk.NO_SPEND_FACTOR
            message = f"no spend was found in the last {days} days; --since DATE looks further back"
            self._add(Finding("spend was found", Severity.WARNING, message))

    def _add(self, finding: Finding) -> None:
        key = (finding.check, finding.day, finding.queue)
        if key not in self._found:
            log.debug("account %s: %s", self._wishes.account, finding.message)
            self._found[key] = finding
