"""Choose the requests that probe undocumented API behaviour, one after the other. Pure functions; no I/O, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from etl.extract import protocol
from etl.extract.planner import NONEXISTENT_MEMBERS
from etl.extract.planner.members import unknown_name_behaviour
from etl.models import (
    DAY,
    HOUR,
    TOTAL,
    ZERO_MEASURES,
    DayState,
    Dimension,
    ErrorScope,
    Measures,
    Record,
    UnknownNameBehaviour,
    Window,
    day_start,
    queue,
)
from etl.money import parse_int, parse_money
from etl.responses import ApiError, InvalidResponse, RawRecord, Response, SuccessPayload, TransportError
from etl.transform.parse import parse_snapshot

MAX_FAILURES = 3
"""Probing stops after this many requests in a row without records: the API has a problem or refuses to answer."""
OFF_HOUR = timedelta(hours=12, minutes=17)
"""Added to a midnight: inside an hour, and on none of the likely hour grids."""
LONG_AGO = date(2015, 1, 1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_TIMESTAMP = 253_402_300_799  # the last second of year 9999


class ProbeRequest(StrEnum):
    """The requests in the order sent. Likely errors are spread out, because the API punishes repeated ones."""

    DAY = "a closed day"
    MONTH = "30 days ago"
    YEAR = "a year ago"
    NO_QUEUE = "a queue that cannot exist"
    INSIDE = "a date inside an hour"
    NO_APP = "an app that cannot exist"
    RUNNING = "the running hour"
    NO_IP = "an address that cannot exist"
    LONG_AGO = "a day long ago"
    QUEUE = "a queue with idle hours"
    TOMORROW = "tomorrow"


UNKNOWN_MEMBERS = {
    ProbeRequest.NO_QUEUE: Dimension.QUEUE,
    ProbeRequest.NO_APP: Dimension.APP,
    ProbeRequest.NO_IP: Dimension.IP,
}


@dataclass(frozen=True)
class Observation:
    """The response to a probe. ``headers``: names in lower case."""

    response: Response
    headers: Mapping[str, str]

    @cached_property
    def raw_records(self) -> tuple[RawRecord, ...]:
        return protocol.raw_records(self.response.body) if isinstance(self.response.reply, SuccessPayload) else ()

    @cached_property
    def records(self) -> list[Record]:
        """The valid records by time, duplicates included."""
        found = []
        for raw in self.raw_records:
            second, volume, amount = parse_int(raw.date_from), parse_int(raw.volume), parse_money(raw.money)
            if second is not None and 0 <= second <= _MAX_TIMESTAMP and volume is not None and amount is not None:
                found.append(Record(EPOCH + timedelta(seconds=second), volume, amount))
        return sorted(found)

    @property
    def hours(self) -> dict[datetime, Measures]:
        return {record.hour_start: record.value for record in self.records}

    @property
    def spend(self) -> dict[datetime, Measures]:
        return {hour: value for hour, value in self.hours.items() if value != ZERO_MEASURES}


Observations = Mapping[ProbeRequest, Observation]
"""What was observed so far, in the order of the requests."""


class Confidence(StrEnum):
    SURE = "sure"
    LIKELY = "likely"
    """Observed, but something else could look the same."""
    OPEN = "open"
    """Could not be determined; the answer says why. Not stored."""


class ProbeResult(NamedTuple):
    """A question and its answer, as stored. The fields after ``seen_at`` are None if nothing was requested for it."""

    question: str
    answer: str
    certainty: Confidence
    seen_at: datetime
    dimension: Dimension | None = None
    member: str | None = None
    window_start: datetime | None = None
    status: int | None = None


class ProbeBaseline(NamedTuple):
    """What the warehouse knows about the account.

    ``day``: newest closed day with spend. ``queue``: the one with the fewest hours on that day. ``split_days``: closed
    days with spend for which queues were requested; ``explained_days``: those whose queues add up. ``hours``: stored
    hours of the total; ``corrected``: how many changed after they had ended; ``latest``: the longest time until such a
    change was seen.
    """

    day: date | None = None
    queue: str | None = None
    split_days: int = 0
    explained_days: int = 0
    hours: int = 0
    corrected: int = 0
    latest: timedelta | None = None


class BehaviourChange(NamedTuple):
    """What the API gave and now gives for an unknown member. ``reset``: excluded names to be requested again."""

    dimension: Dimension
    before: UnknownNameBehaviour
    now: UnknownNameBehaviour
    reset: tuple[str, ...]


def next_probe(
    observations: Observations, baseline: ProbeBaseline, now: datetime, account: str
) -> tuple[ProbeRequest, Window] | None:
    """Return the next request and its window; None when probing is done."""
    if stopped_by(observations):
        return None
    for request in ProbeRequest:
        if request not in observations and (window := _window(request, observations, baseline, now, account)):
            return request, window
    return None


def stopped_by(observations: Observations) -> ApiError | InvalidResponse | TransportError | None:
    """Return the reply that ended probing early: an account error, or the last of MAX_FAILURES in a row."""
    last = [observation.response.reply for observation in observations.values()][-MAX_FAILURES:]
    failures = [reply for reply in last if not isinstance(reply, SuccessPayload)]
    for reply in failures:
        if isinstance(reply, ApiError) and reply.scope is ErrorScope.ACCOUNT:
            return reply
    is_complete = ProbeRequest.TOMORROW in observations
    return failures[-1] if len(failures) == MAX_FAILURES and not is_complete else None


def _window(
    request: ProbeRequest, observations: Observations, baseline: ProbeBaseline, now: datetime, account: str
) -> Window | None:
    today = now.date()
    closed_day = baseline.day or today - DAY
    days = {
        ProbeRequest.DAY: closed_day,
        ProbeRequest.MONTH: today - 30 * DAY,
        ProbeRequest.YEAR: today - 365 * DAY,
        ProbeRequest.LONG_AGO: LONG_AGO,
        ProbeRequest.TOMORROW: today + DAY,
    }
    if request in days:
        return Window.whole_day(account, TOTAL, days[request])
    if request is ProbeRequest.QUEUE:
        return Window.whole_day(account, queue(baseline.queue), closed_day) if baseline.queue else None
    if request is ProbeRequest.RUNNING:
        start = now.replace(minute=0, second=0, microsecond=0) - 3 * HOUR
        return Window(account, TOTAL, start.date(), start, start + DAY)
    day = observations[request_with_spend(observations)].response.window.day
    if request in UNKNOWN_MEMBERS:
        return Window.whole_day(account, NONEXISTENT_MEMBERS[UNKNOWN_MEMBERS[request]], day)
    start = day_start(day) + OFF_HOUR
    return Window(account, TOTAL, day, start, start + DAY)


def request_with_spend(observations: Observations) -> ProbeRequest:
    """Return the first request for a closed day whose response has spend; the first one if none has."""
    for request in (ProbeRequest.DAY, ProbeRequest.MONTH, ProbeRequest.YEAR):
        if request in observations and observations[request].spend:
            return request
    return ProbeRequest.DAY


def unknown_name_behaviours(observations: Observations) -> dict[Dimension, UnknownNameBehaviour]:
    """Return what the API gives for members that cannot exist, for the dimensions where the responses show it."""
    totals = parse_snapshot(observations[request_with_spend(observations)].response, 0, None)
    found = dict[Dimension, UnknownNameBehaviour]()
    for request, dimension in UNKNOWN_MEMBERS.items():
        if request in observations:
            response = observations[request].response
            day = DayState(response.window.day, total_requested_at=totals.requested_at, total_by_hour=totals.values)
            if behaviour := unknown_name_behaviour(parse_snapshot(response, 0, None), day):
                found[dimension] = behaviour
    return found
