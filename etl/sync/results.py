"""What callers see of a sync: its progress, its result, its plan. Field names are keys of the JSON output."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from etl.config import Settings
from etl.errors import AppError, InterruptedRunError, most_severe
from etl.models import Finding, Severity


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sync is.

    ``days_planned`` and ``seconds_left`` are None while the first day of history is unknown; ``days_without_spend``
    then is the number of days searched beyond the oldest spend, of ``empty_days`` after which the search ends.
    ``hourly_values`` are new facts so far, ``money`` is the spend of the days read so far.
    """

    day: date | None = None
    days_done: int = 0
    days_planned: int | None = None
    days_without_spend: int = 0
    empty_days: int = 0
    requests: int = 0
    seconds: float = 0.0
    hourly_values: int = 0
    money: Decimal = Decimal(0)
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync did.

    ``money`` is the spend in US dollars of the days read, from ``first_day`` to ``last_day``. ``windows_left`` counts
    unfinished days, ``facts_unchanged`` stored facts that were read again with the same value. ``lower_bound`` is the
    number of requests needed by a sync that knows all responses in advance.

    ``hourly_values_new`` is by how much ``select count(*) from spending_hourly where account = ...`` grew;
    ``hourly_values_changed`` counts the rows of queues (not ``(unattributed)``) in that view whose value changed.
    """

    account: str
    exit_code: int
    run: int = 0
    seconds: float = 0.0
    requests: int = 0
    retries: int = 0
    windows_good: int = 0
    windows_failed: int = 0
    windows_left: int = 0
    facts_inserted: int = 0
    facts_changed: int = 0
    facts_unchanged: int = 0
    hourly_values_new: int = 0
    hourly_values_changed: int = 0
    rejections: int = 0
    outside: int = 0
    money: Decimal = Decimal(0)
    days: int = 0
    first_day: date | None = None
    last_day: date | None = None
    lower_bound: int = 0
    findings: tuple[Finding, ...] = ()
    messages: tuple[str, ...] = ()

    @property
    def needs_attention(self) -> bool:
        """True if a person should look: a non-zero exit code or a finding above ``note``."""
        return self.exit_code != 0 or any(finding.severity is not Severity.INFO for finding in self.findings)


@dataclass(frozen=True, slots=True)
class AccountOutcome:
    """How one of several accounts ended: with a result, a problem or a crash. ``settings`` is None if they were
    invalid."""

    account: str
    exit_code: int
    settings: Settings | None = None
    result: SyncResult | None = None
    problem: AppError | None = None
    crash: Exception | None = None

    @property
    def needs_attention(self) -> bool:
        return self.result is None or self.result.needs_attention


@dataclass(frozen=True, slots=True)
class FleetProgress:
    """The progress of all accounts together."""

    accounts_done: int
    accounts: int
    requests: int = 0
    seconds: float = 0.0
    hourly_values: int = 0
    money: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class FleetResult:
    """The outcomes of several accounts in the order of the TOML; after Ctrl-C some were ``not_started``."""

    outcomes: tuple[AccountOutcome, ...]
    not_started: tuple[str, ...] = ()
    was_interrupted: bool = False

    @property
    def results(self) -> list[SyncResult]:
        return [outcome.result for outcome in self.outcomes if outcome.result]

    @property
    def exit_code(self) -> int:
        interrupted = [InterruptedRunError.exit_code] if self.was_interrupted else []
        return most_severe(interrupted + [outcome.exit_code for outcome in self.outcomes])


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """What ``sync`` would request, retries not counted. Some of the ``days`` may need no request.

    ``at_most`` is None while the start of history is unknown.
    """

    account: str
    days: int
    at_least: int
    at_most: int | None
    minutes_at_least: float | None
    minutes_at_most: float | None
    hints: tuple[str, ...] = ()
