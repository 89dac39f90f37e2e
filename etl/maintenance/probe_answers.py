"""What probe responses and stored data say about undocumented API behaviour. Pure functions."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

from etl import money
from etl.extract import protocol
from etl.maintenance.probes import (
    EPOCH,
    LONG_AGO,
    Confidence,
    Observations,
    ProbeBaseline,
    ProbeRequest,
    ProbeResult,
    request_with_spend,
)
from etl.models import HOUR, MAX_CLOCK_SKEW, ZERO_MEASURES, ErrorScope
from etl.responses import ApiError, SuccessPayload

Interpretation = tuple[str, Confidence]
SURE, LIKELY, OPEN = Confidence
CLOCKS_DIFFER = ("this machine's clock and the server's differ", OPEN)
NO_RECORDS = ("no records came", OPEN)
MAX_HEADER_TEXT = 200


def _hour_offset(observations: Observations) -> timedelta:
    """Return where hours begin relative to the whole hour; negative if the first begins before its window."""
    observation = observations[request_with_spend(observations)]
    if not observation.hours:
        return timedelta(0)
    first = min(observation.hours)
    early = first - observation.response.window.start
    return early if -HOUR < early < timedelta(0) else _past_hour(first)


def _past_hour(time: datetime) -> timedelta:
    return (time - EPOCH) % HOUR


def _format_minutes(span: timedelta) -> str:
    minutes, seconds = divmod(span // timedelta(seconds=1), 60)
    return f"{minutes} min {seconds} s" if seconds else f"{minutes} minutes"


def _hours_begin(observations: Observations, request: ProbeRequest) -> Interpretation:
    past = _past_hour(min(observations[request].hours))
    return f"{_format_minutes(past)} past the hour" if past else "the whole UTC hour", SURE


def _date_at_midnight(observations: Observations, request: ProbeRequest) -> Interpretation:
    hours, start = observations[request].hours, observations[request].response.window.start
    first, last = min(hours), max(hours)
    index = (last - start - _hour_offset(observations)) // HOUR
    ends = {22: "the last hour is missing", 23: "the last hour is there", 24: "the next day's first hour too"}
    answer = f"{len(hours)} records, {first:%H:%M} to {last:%H:%M}: {ends.get(index, 'not a whole day')}"
    is_whole = index in ends and len(hours) == index + 1
    return answer, SURE if is_whole else LIKELY


def _date_inside_hour(observations: Observations, request: ProbeRequest) -> Interpretation:
    first, start = min(observations[request].hours), observations[request].response.window.start
    if _past_hour(first) == _past_hour(start):
        return "shifted: hours begin at that very second", SURE
    if _past_hour(first) != _hour_offset(observations) % HOUR:
        return f"hours begin {_format_minutes(_past_hour(first))} past the hour", LIKELY
    if first <= start:
        return f"snapped back to {first:%H:%M}", SURE
    return f"snapped on to {first:%H:%M}", LIKELY


def _unknown_member(observations: Observations, request: ProbeRequest) -> Interpretation:
    observation = observations[request]
    total = observations[request_with_spend(observations)].spend
    if isinstance(observation.response.reply, ApiError):
        return f"error {observation.response.reply.code}", SURE
    if not total:
        return "zeros or the total: the day has no spend", OPEN
    if not observation.spend:
        return "zeros" if observation.hours else "zeros: no records at all", SURE
    if observation.spend != total:
        return "spend that is not the total's", LIKELY
    return "the account's total", SURE


def _other_date(observations: Observations, request: ProbeRequest) -> Interpretation:
    response, hours = observations[request].response, observations[request].hours
    if isinstance(response.reply, ApiError):
        return f"error {response.reply.code}", SURE
    if not hours:
        return "no records", SURE
    if min(hours) <= response.window.start - HOUR or max(hours) > response.window.end:
        return f"other hours, from {min(hours):%Y-%m-%d %H:%M}", SURE
    return f"{len(hours)} records{' with spend' if observations[request].spend else ', all zero'}", SURE


def _running_hour_start(observations: Observations, request: ProbeRequest) -> datetime | None:
    """Return the start of the hour that was running; None if the clocks differ too much to say."""
    response = observations[request].response
    now = response.server_time or response.requested_at
    if abs(now - response.requested_at) > MAX_CLOCK_SKEW:
        return None
    return now - (now - EPOCH - _hour_offset(observations)) % HOUR


def _running_hour(observations: Observations, request: ProbeRequest) -> Interpretation:
    running = _running_hour_start(observations, request)
    if running is None:
        return CLOCKS_DIFFER
    return ("included", SURE) if running in observations[request].hours else ("left out", LIKELY)


def _hours_not_begun(observations: Observations, request: ProbeRequest) -> Interpretation:
    hours, running = observations[request].hours, _running_hour_start(observations, request)
    if running is None:
        return CLOCKS_DIFFER
    later = {value for hour, value in hours.items() if hour > running}
    if later:
        return "come as zeros" if later == {ZERO_MEASURES} else "come, some with spend", SURE
    return "left out", SURE if running in hours else LIKELY


def _idle_hours_seen(observations: Observations, request: ProbeRequest) -> set[str]:
    """Return whether closed hours without spend are zero, left out between two others, or both."""
    if request in (ProbeRequest.RUNNING, ProbeRequest.TOMORROW, ProbeRequest.INSIDE):
        return set()
    hours = observations[request].hours
    has_zero = ZERO_MEASURES in hours.values()
    has_gap = bool(hours) and len(hours) <= (max(hours) - min(hours)) // HOUR
    return {form for form, is_seen in (("zero", has_zero), ("left out", has_gap)) if is_seen}


def _request_with_idle_hour(observations: Observations) -> ProbeRequest:
    found = (request for request in observations if _idle_hours_seen(observations, request))
    return next(found, ProbeRequest.DAY)


def _idle_hour(observations: Observations, request: ProbeRequest) -> Interpretation:
    seen = {form for other in observations for form in _idle_hours_seen(observations, other)}
    if len(seen) > 1:
        return "zero, and sometimes left out", LIKELY
    if seen:
        return seen.pop(), SURE
    is_late = min(observations[request].hours) - observations[request].response.window.start >= HOUR
    return ("left out", LIKELY) if is_late else ("no idle hour was met", OPEN)


_JSON_TYPES: Mapping[type, str] = {int: "number", Decimal: "number", str: "string", type(None): "null"}


def _json_types(values: list[object]) -> str:
    return " or ".join(sorted({_JSON_TYPES.get(type(value), "something else") for value in values}))


def _volume_type(observations: Observations, request: ProbeRequest) -> Interpretation:
    types = _json_types([raw.volume for raw in observations[request].raw_records])
    return (types, SURE) if types else NO_RECORDS


def _money_type(observations: Observations, request: ProbeRequest) -> Interpretation:
    amounts = [raw.money for raw in observations[request].raw_records]
    if not amounts:
        return NO_RECORDS
    numbers = [number for amount in amounts if (number := money.parse_decimal(amount))]
    places = max((-int(number.as_tuple().exponent) for number in numbers), default=0)
    noise = ", float noise" if places > money.SCALE else ""
    return f"{_json_types(amounts)}, up to {max(0, places)} places{noise}", SURE


def _data_shape(observations: Observations, request: ProbeRequest) -> Interpretation:
    shape = protocol.data_shape(observations[request].response.body)
    return {"list": "a list", "object": "an object"}.get(shape, shape), SURE


def _duplicates(observations: Observations, request: ProbeRequest) -> Interpretation:
    groups = [list(same) for _, same in groupby(observations[request].records, key=lambda record: record.hour_start)]
    repeated = [same for same in groups if len(same) > 1]
    if not repeated:
        return "no", LIKELY
    return "yes, the same" if all(len(set(same)) == 1 for same in repeated) else "yes, and they differ", SURE


def _request_with_error(observations: Observations) -> ProbeRequest:
    found = (request for request, one in observations.items() if isinstance(one.response.reply, ApiError))
    return next(found, ProbeRequest.NO_QUEUE)


def _error_form(observations: Observations, request: ProbeRequest) -> Interpretation:
    response, headers = observations[request].response, observations[request].headers
    if not isinstance(response.reply, ApiError):
        return "no error came", OPEN
    content_type = headers.get("content-type", "no content-type")
    names = protocol.clean(", ".join(sorted(headers)), MAX_HEADER_TEXT)
    return f"HTTP {response.status}, {content_type}; headers: {names}", SURE


def _sum_of_queues(baseline: ProbeBaseline) -> Interpretation:
    if not baseline.split_days:
        return "no closed day with queues is stored", OPEN
    answer = f"is the total on {baseline.explained_days:,} of {baseline.split_days:,} closed days with spend"
    return answer, SURE if baseline.explained_days == baseline.split_days else LIKELY


def _closed_hour(baseline: ProbeBaseline) -> Interpretation:
    if baseline.corrected:
        latest = (baseline.latest or timedelta(0)) // HOUR
        answer = f"changed in {baseline.corrected:,} of {baseline.hours:,} hours, seen up to {latest:,} h after its end"
        return answer, SURE
    return (f"no change seen in {baseline.hours:,} hours", LIKELY) if baseline.hours else ("no hours are stored", OPEN)


class _Question(NamedTuple):
    """``request``: the one that answers it, or how to choose it. ``errors``: scopes of API errors that are answers."""

    text: str
    request: ProbeRequest | Callable[[Observations], ProbeRequest]
    interpret: Callable[[Observations, ProbeRequest], Interpretation]
    errors: tuple[ErrorScope, ...] = ()
    needs_records: bool = True


_OWN_ERRORS = (ErrorScope.WINDOW, ErrorScope.SERIES)
_QUESTIONS = (
    _Question("hours begin at", request_with_spend, _hours_begin),
    _Question("date at midnight", request_with_spend, _date_at_midnight),
    _Question("date inside an hour", ProbeRequest.INSIDE, _date_inside_hour),
    _Question("unknown queue", ProbeRequest.NO_QUEUE, _unknown_member, _OWN_ERRORS, needs_records=False),
    _Question("unknown softId", ProbeRequest.NO_APP, _unknown_member, _OWN_ERRORS, needs_records=False),
    _Question("unknown ip", ProbeRequest.NO_IP, _unknown_member, _OWN_ERRORS, needs_records=False),
    _Question("date 30 days ago", ProbeRequest.MONTH, _other_date, _OWN_ERRORS, needs_records=False),
    _Question("date 1 year ago", ProbeRequest.YEAR, _other_date, _OWN_ERRORS, needs_records=False),
    _Question(f"date in {LONG_AGO.year}", ProbeRequest.LONG_AGO, _other_date, _OWN_ERRORS, needs_records=False),
    _Question("date tomorrow", ProbeRequest.TOMORROW, _other_date, _OWN_ERRORS, needs_records=False),
    _Question("running hour", ProbeRequest.RUNNING, _running_hour),
    _Question("hours not begun", ProbeRequest.RUNNING, _hours_not_begun),
    _Question("idle hour", _request_with_idle_hour, _idle_hour),
    _Question("volume is a", request_with_spend, _volume_type, needs_records=False),
    _Question("money is a", request_with_spend, _money_type, needs_records=False),
    _Question("data is", request_with_spend, _data_shape, needs_records=False),
    _Question("an hour twice", request_with_spend, _duplicates),
    _Question("error comes as", _request_with_error, _error_form, tuple(ErrorScope), needs_records=False),
)


def answers(observations: Observations, baseline: ProbeBaseline, now: datetime) -> list[ProbeResult]:
    """Return the answer to every question, from the responses or from stored data."""
    stored = (("sum of queues", _sum_of_queues(baseline)), ("a closed hour", _closed_hour(baseline)))
    return [_answer(question, observations, now) for question in _QUESTIONS] + [
        ProbeResult(text, *found, now) for text, found in stored
    ]


def _answer(question: _Question, observations: Observations, now: datetime) -> ProbeResult:
    request = question.request if isinstance(question.request, ProbeRequest) else question.request(observations)
    if request not in observations:
        return ProbeResult(question.text, "not asked", OPEN, now)
    response = observations[request].response
    reply, window = response.reply, response.window
    is_answer = isinstance(reply, ApiError) and reply.scope in question.errors
    if not isinstance(reply, SuccessPayload) and not is_answer:
        found = (f"no answer: {reply.code}", OPEN)
    elif question.needs_records and not observations[request].records:
        found = NO_RECORDS
    else:
        found = question.interpret(observations, request)
    return ProbeResult(question.text, *found, response.requested_at, *window.series, window.start, response.status)
