"""Probe undocumented API behaviour: which requests to send, one after the other. Pure functions; no I/O, no clock."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TypeGuard

from etl.extract.client import ProbeResponse
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
    SeriesKey,
    UnknownNameBehaviour,
    Window,
    day_start,
    queue,
)
from etl.responses import ApiError, SuccessPayload
from etl.transform import money, parse

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
_WHOLE_DAYS = {ProbeRequest.MONTH: -30 * DAY, ProbeRequest.YEAR: -365 * DAY, ProbeRequest.TOMORROW: DAY}

ProbeResponses = Mapping[ProbeRequest, ProbeResponse]
"""The responses so far, in the order they were requested."""


class Confidence(StrEnum):
    SURE = "sure"
    LIKELY = "likely"
    """Observed, but something else could look the same."""
    OPEN = "open"
    """Could not be determined; the answer says why. Not stored."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A question and its answer. ``series``, ``window_start``: what was requested; None if answered from storage."""

    question: str
    answer: str
    certainty: Confidence
    seen_at: datetime
    series: SeriesKey | None = None
    window_start: datetime | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class ProbeBaseline:
    """What the warehouse knows about the account.

    ``day``: newest closed day with spend. ``queue``: the one with the fewest hours on that day. ``split_days``: closed
    days with spend for which queues were requested; ``explained_days``: those whose queues add up. ``hours``: stored
    hours of the total;
    ``corrected``: how many changed after they had ended; ``latest``: the longest time until such a change was seen.
    """

    day: date | None = None
    queue: str | None = None
    split_days: int = 0
    explained_days: int = 0
    hours: int = 0
    corrected: int = 0
    latest: timedelta | None = None


def next_probe(
    responses: ProbeResponses, baseline: ProbeBaseline, now: datetime, account: str
) -> tuple[ProbeRequest, Window] | None:
    """Return the next request and its window; None when probing is done."""
    if fatal_error(responses) or failure(responses):
        return None
    for request in ProbeRequest:
        if request not in responses and (window := _window(request, responses, baseline, now, account)):
            return request, window
    return None


def fatal_error(responses: ProbeResponses) -> ApiError | None:
    """Return the error that concerns the whole account, if there was one."""
    replies = (response.answer.reply for response in responses.values())
    return next((reply for reply in replies if is_error(reply, (ErrorScope.ACCOUNT,))), None)


def is_error(reply: object, scopes: Collection[ErrorScope]) -> TypeGuard[ApiError]:
    return isinstance(reply, ApiError) and reply.scope in scopes


def failure(responses: ProbeResponses) -> str:
    """Return the code of the last reply if probing stopped after MAX_FAILURES; otherwise an empty string."""
    last = [response.answer.reply for response in responses.values()][-MAX_FAILURES:]
    codes = [reply.code for reply in last if not isinstance(reply, SuccessPayload)]
    return codes[-1] if len(codes) == MAX_FAILURES and ProbeRequest.TOMORROW not in responses else ""


def _window(
    request: ProbeRequest, responses: ProbeResponses, baseline: ProbeBaseline, now: datetime, account: str
) -> Window | None:
    today = now.date()
    spend = request_with_spend(responses)
    day_with_spend = responses[spend].answer.window.day if spend in responses else baseline.day or today - DAY
    if request in _WHOLE_DAYS:
        return Window.whole_day(account, TOTAL, today + _WHOLE_DAYS[request])
    if request in UNKNOWN_MEMBERS:
        return Window.whole_day(account, NONEXISTENT_MEMBERS[UNKNOWN_MEMBERS[request]], day_with_spend)
    match request:
        case ProbeRequest.DAY:
            return Window.whole_day(account, TOTAL, baseline.day or today - DAY)
        case ProbeRequest.LONG_AGO:
            return Window.whole_day(account, TOTAL, LONG_AGO)
        case ProbeRequest.INSIDE:
            start = day_start(day_with_spend) + OFF_HOUR
            return Window(account, TOTAL, day_with_spend, start, start + DAY)
        case ProbeRequest.RUNNING:
            start = now.replace(minute=0, second=0, microsecond=0) - 3 * HOUR
            return Window(account, TOTAL, start.date(), start, start + DAY)
    if baseline.queue and baseline.day:
        return Window.whole_day(account, queue(baseline.queue), baseline.day)
    return None


def request_with_spend(responses: ProbeResponses) -> ProbeRequest:
    """Return the first request for a closed day whose response has spend; the first one if none has."""
    closed_days = (ProbeRequest.DAY, ProbeRequest.MONTH, ProbeRequest.YEAR)
    return next((request for request in closed_days if spend_by_hour(responses, request)), ProbeRequest.DAY)


def records(response: ProbeResponse) -> list[Record]:
    """Return the valid records by time, duplicates included."""
    reply = response.answer.reply
    found = []
    for raw in reply.records if isinstance(reply, SuccessPayload) else ():
        start, volume, amount = (
            money.parse_int(raw.date_from),
            money.parse_int(raw.volume),
            money.parse_money(raw.money),
        )
        if start is not None and 0 <= start <= _MAX_TIMESTAMP and volume is not None and amount is not None:
            found.append(Record(EPOCH + timedelta(seconds=start), volume, amount))
    return sorted(found)


def values_by_hour(responses: ProbeResponses, request: ProbeRequest) -> dict[datetime, Measures]:
    found = records(responses[request]) if request in responses else []
    return {record.hour_start: record.value for record in found}


def spend_by_hour(responses: ProbeResponses, request: ProbeRequest) -> dict[datetime, Measures]:
    return {hour: value for hour, value in values_by_hour(responses, request).items() if value != ZERO_MEASURES}


def unknown_name_behaviours(responses: ProbeResponses) -> dict[Dimension, UnknownNameBehaviour]:
    """Return what the API gives for members that cannot exist, for the dimensions where the responses show it."""
    totals = values_by_hour(responses, request_with_spend(responses))
    found = {}
    for request, dimension in UNKNOWN_MEMBERS.items():
        if request in responses:
            answer = responses[request].answer
            day = DayState(answer.window.day, total_by_hour=totals)
            if behaviour := unknown_name_behaviour(parse.parse_snapshot(answer, 0, None), day):
                found[dimension] = behaviour
    return found
