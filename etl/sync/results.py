"""What a caller sees of a run: how far it has come, what it did, what it would do."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from etl.config import Settings
from etl.errors import AppError, InterruptedRunError, most_severe
from etl.models import Finding, Severity


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come. ``money`` is what the days read so far spent; ``seconds_left`` is None while unknown."""

    day: date | None = None
    days_done: int = 0
    days_planned: int | None = None
    requests: int = 0
    facts: int = 0
    money: Decimal = Decimal(0)
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did. ``lower_bound`` are the requests that a run knowing all answers beforehand would have made;
    ``money`` is what the days it read have spent, in US dollars; ``windows_left`` counts days not finished;
    ``facts_unchanged`` facts that were read again and said the same."""

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
    rejections: int = 0
    outside: int = 0
    money: Decimal = Decimal(0)
    days: int = 0
    lower_bound: int = 0
    findings: tuple[Finding, ...] = ()
    messages: tuple[str, ...] = ()

    @property
    def needs_attention(self) -> bool:
        """Whether there is something to mend or to look at."""
        return self.exit_code != 0 or any(finding.severity is not Severity.NOTE for finding in self.findings)


@dataclass(frozen=True, slots=True)
class AccountOutcome:
    """How one of several accounts ended: with a summary, a problem or a defect of the program. ``settings`` is None where they
    could not be read."""

    account: str
    exit_code: int
    settings: Settings | None = None
    summary: Summary | None = None
    problem: AppError | None = None
    defect: Exception | None = None

    @property
    def needs_attention(self) -> bool:
        """Whether there is something to mend or to look at."""
        return self.summary is None or self.summary.needs_attention


@dataclass(frozen=True, slots=True)
class FleetProgress:
    """How far all accounts have come. ``money`` is what the days read so far spent."""

    accounts_done: int
    accounts: int
    requests: int = 0
    facts: int = 0
    money: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class FleetResult:
    """How several accounts ended, in the order of the TOML; those ``not_begun`` were spared by an interrupt."""

    ended: tuple[AccountOutcome, ...]
    not_begun: tuple[str, ...] = ()
    was_interrupted: bool = False

    @property
    def summaries(self) -> list[Summary]:
        return [one.summary for one in self.ended if one.summary]

    @property
    def exit_code(self) -> int:
        interrupted = [InterruptedRunError.exit_code] if self.was_interrupted else []
        return most_severe(interrupted + [one.exit_code for one in self.ended])


@dataclass(frozen=True, slots=True)
class Forecast:
    """What ``sync`` would ask. Of the ``days`` it looks at, some may take no request. ``at_most`` is None while the start of
    history is unknown; retries are not counted."""

    account: str
    days: int
    at_least: int
    at_most: int | None
    minutes_at_least: float | None
    minutes_at_most: float | None
    notes: tuple[str, ...] = ()
