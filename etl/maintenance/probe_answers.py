"""What probe responses and stored data say about undocumented API behaviour. Pure functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

from etl.extract import protocol
from etl.maintenance.probes import (
    EPOCH,
    LONG_AGO,
    Confidence,
    ProbeBaseline,
    ProbeRequest,
    ProbeResponses,
    ProbeResult,
    is_error,
    records,
    request_with_spend,
    spend_by_hour,
    values_by_hour,
)
from etl.models import HOUR, MAX_CLOCK_SKEW, ZERO_MEASURES, ErrorScope
from etl.responses import ApiError, RawRecord, SuccessPayload
from etl.transform import money


class Interpretation(NamedTuple):
    answer: str
    certainty: Confidence = Confidence.SURE


def _likely(answer: str) -> Interpretation:
    return Interpretation(answer, Confidence.LIKELY)


def _open(reason: str) -> Interpretation:
    return Interpretation(reason, Confidence.OPEN)


NO_RECORDS = _open("no records came")
CLOCKS_DIFFER = _open("this machine's clock and the server's differ")
MAX_HEADER_TEXT = 200


def _hour_offset(responses: ProbeResponses) -> timedelta:
    """Return where hours begin relative to the whole hour; negative if the first begins before its window."""
    request = request_with_spend(responses)
    hours = values_by_hour(responses, request)
    if not hours:
        return timedelta(0)
    early = min(hours) - responses[request].answer.window.start
    return early if -HOUR < early < timedelta(0) else _past_hour(min(hours))


def _past_hour(time: datetime) -> timedelta:
    return (time - EPOCH) % HOUR


def _format_minutes(span: timedelta) -> str:
    minutes, seconds = divmod(span // timedelta(seconds=1), 60)
    return f"{minutes} min {seconds} s" if seconds else f"{minutes} minutes"


def _hours_begin(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    hours = values_by_hour(responses, request)
    if not hours:
        return NO_RECORDS
    past = _past_hour(min(hours))
    return Interpretation(f"{_format_minutes(past)} past the hour" if past else "the whole UTC hour")


def _date_at_midnight(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    hours = values_by_hour(responses, request)
    if not hours:
        return NO_RECORDS
    first, last = min(hours), max(hours)
    index = (last - responses[request].answer.window.start - _hour_offset(responses)) // HOUR
    ends = {22: "the last hour is missing", 23: "the last hour is there", 24: "the next day's first hour too"}
    answer = f"{len(hours)} records, {first:%H:%M} to {last:%H:%M}: {ends.get(index, 'not a whole day')}"
    is_whole = index in ends and len(hours) == index + 1
    return Interpretation(answer) if is_whole else _likely(answer)


def _date_inside_hour(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    hours, start = values_by_hour(responses, request), responses[request].answer.window.start
    if not hours:
        return NO_RECORDS
    first = min(hours)
    if _past_hour(first) == _past_hour(start):
        return Interpretation("shifted: hours begin at that very second")
    if _past_hour(first) != _hour_offset(responses) % HOUR:
        return _likely(f"hours begin {_format_minutes(_past_hour(first))} past the hour")
    if first <= start:
        return Interpretation(f"snapped back to {first:%H:%M}")
    return _likely(f"snapped on to {first:%H:%M}")


def _unknown_member(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    reply = responses[request].answer.reply
    if isinstance(reply, ApiError):
        return Interpretation(f"error {reply.code}")
    total, spend = spend_by_hour(responses, request_with_spend(responses)), spend_by_hour(responses, request)
    if not total:
        return _open("zeros or the total: the day has no spend")
    if not spend:
        return Interpretation("zeros" if values_by_hour(responses, request) else "zeros: no records at all")
    return Interpretation("the account's total") if spend == total else _likely("spend that is not the total's")


def _other_date(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    answer, hours = responses[request].answer, values_by_hour(responses, request)
    if isinstance(answer.reply, ApiError):
        return Interpretation(f"error {answer.reply.code}")
    if not hours:
        return Interpretation("no records")
    if min(hours) <= answer.window.start - HOUR or max(hours) > answer.window.end:
        return Interpretation(f"other hours, from {min(hours):%Y-%m-%d %H:%M}")
    return Interpretation(f"{len(hours)} records{' with spend' if spend_by_hour(responses, request) else ', all zero'}")


def _running_hour_start(responses: ProbeResponses, request: ProbeRequest) -> datetime | None:
    """Return the start of the hour that was running; None if the clocks differ too much to say."""
    answer = responses[request].answer
    now = answer.server_time or answer.requested_at
    if abs(now - answer.requested_at) > MAX_CLOCK_SKEW:
        return None
    return now - (now - EPOCH - _hour_offset(responses)) % HOUR


def _running_hour(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    hours, running = values_by_hour(responses, request), _running_hour_start(responses, request)
    if running is None:
        return CLOCKS_DIFFER
    if running in hours:
        return Interpretation("included")
    return _likely("left out") if hours else NO_RECORDS


def _hours_not_begun(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    hours, running = values_by_hour(responses, request), _running_hour_start(responses, request)
    if running is None or not hours:
        return CLOCKS_DIFFER if hours else NO_RECORDS
    later = [value for hour, value in hours.items() if hour > running]
    if not later:
        return Interpretation("left out") if running in hours else _likely("left out")
    return Interpretation("come as zeros" if set(later) == {ZERO_MEASURES} else "come, some with spend")


def _has_zero(responses: ProbeResponses, request: ProbeRequest) -> bool:
    return ZERO_MEASURES in values_by_hour(responses, request).values()


def _has_gap(responses: ProbeResponses, request: ProbeRequest) -> bool:
    """Whether an hour between two others is missing."""
    hours = values_by_hour(responses, request)
    return bool(hours) and len(hours) <= (max(hours) - min(hours)) // HOUR


def _closed_requests(responses: ProbeResponses) -> list[ProbeRequest]:
    others = (ProbeRequest.RUNNING, ProbeRequest.TOMORROW, ProbeRequest.INSIDE)
    return [request for request in responses if request not in others]


def _request_with_idle_hour(responses: ProbeResponses) -> ProbeRequest:
    found = (one for one in _closed_requests(responses) if _has_zero(responses, one) or _has_gap(responses, one))
    return next(found, ProbeRequest.DAY)


def _idle_hour(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    closed = _closed_requests(responses)
    has_zero = any(_has_zero(responses, one) for one in closed)
    has_gap = any(_has_gap(responses, one) for one in closed)
    if has_zero and has_gap:
        return _likely("zero, and sometimes left out")
    if has_zero or has_gap:
        return Interpretation("zero" if has_zero else "left out")
    hours = values_by_hour(responses, request)
    if hours and min(hours) - responses[request].answer.window.start >= HOUR:
        return _likely("left out")
    return _open("no idle hour was met")


def _raw_records(responses: ProbeResponses, request: ProbeRequest) -> tuple[RawRecord, ...]:
    reply = responses[request].answer.reply
    return tuple(reply.records) if isinstance(reply, SuccessPayload) else ()


_JSON_TYPES: Mapping[type, str] = {int: "number", Decimal: "number", str: "string", type(None): "null"}


def _json_types(values: list[object]) -> Interpretation:
    names = sorted({_JSON_TYPES.get(type(value), "something else") for value in values})
    return Interpretation(" or ".join(names)) if names else NO_RECORDS


def _volume_type(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    return _json_types([raw.volume for raw in _raw_records(responses, request)])


def _money_type(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    amounts = [raw.money for raw in _raw_records(responses, request)]
    found = _json_types(amounts)
    if found is NO_RECORDS:
        return found
    numbers = [number for amount in amounts if (number := money.parse_decimal(amount))]
    places = max((-int(number.as_tuple().exponent) for number in numbers), default=0)
    noise = ", float noise" if places > money.SCALE else ""
    return found._replace(answer=f"{found.answer}, up to {max(0, places)} places{noise}")


def _data_shape(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    shape = protocol.data_shape(responses[request].answer.body)
    return Interpretation({"list": "a list", "object": "an object"}.get(shape, shape))


def _duplicates(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    found = records(responses[request])
    groups = [list(same) for _, same in groupby(found, key=lambda record: record.hour_start)]
    repeated = [same for same in groups if len(same) > 1]
    if not repeated:
        return _likely("no") if found else NO_RECORDS
    return Interpretation("yes, the same" if all(len(set(same)) == 1 for same in repeated) else "yes, and they differ")


def _request_with_error(responses: ProbeResponses) -> ProbeRequest:
    found = (request for request, one in responses.items() if isinstance(one.answer.reply, ApiError))
    return next(found, ProbeRequest.NO_QUEUE)


def _error_form(responses: ProbeResponses, request: ProbeRequest) -> Interpretation:
    response = responses[request]
    if not isinstance(response.answer.reply, ApiError):
        return _open("no error came")
    content_type = response.headers.get("content-type", "no content-type")
    names = protocol.clean(", ".join(sorted(response.headers)), MAX_HEADER_TEXT)
    return Interpretation(f"HTTP {response.answer.status}, {content_type}; headers: {names}")


@dataclass(frozen=True, slots=True)
class _Question:
    """``request``: the one that answers it, or how to choose it. ``accepts_errors``: API errors that are answers."""

    text: str
    request: ProbeRequest | Callable[[ProbeResponses], ProbeRequest]
    interpret: Callable[[ProbeResponses, ProbeRequest], Interpretation]
    accepts_errors: tuple[ErrorScope, ...] = ()


_OWN_ERRORS = (ErrorScope.WINDOW, ErrorScope.SERIES)
_QUESTIONS = (
    _Question("hours begin at", request_with_spend, _hours_begin),
    _Question("date at midnight", request_with_spend, _date_at_midnight),
    _Question("date inside an hour", ProbeRequest.INSIDE, _date_inside_hour),
    _Question("unknown queue", ProbeRequest.NO_QUEUE, _unknown_member, _OWN_ERRORS),
    _Question("unknown softId", ProbeRequest.NO_APP, _unknown_member, _OWN_ERRORS),
    _Question("unknown ip", ProbeRequest.NO_IP, _unknown_member, _OWN_ERRORS),
    _Question("date 30 days ago", ProbeRequest.MONTH, _other_date, _OWN_ERRORS),
    _Question("date 1 year ago", ProbeRequest.YEAR, _other_date, _OWN_ERRORS),
    _Question(f"date in {LONG_AGO.year}", ProbeRequest.LONG_AGO, _other_date, _OWN_ERRORS),
    _Question("date tomorrow", ProbeRequest.TOMORROW, _other_date, _OWN_ERRORS),
    _Question("running hour", ProbeRequest.RUNNING, _running_hour),
    _Question("hours not begun", ProbeRequest.RUNNING, _hours_not_begun),
    _Question("idle hour", _request_with_idle_hour, _idle_hour),
    _Question("volume is a", request_with_spend, _volume_type),
    _Question("money is a", request_with_spend, _money_type),
    _Question("data is", request_with_spend, _data_shape),
    _Question("an hour twice", request_with_spend, _duplicates),
    _Question("error comes as", _request_with_error, _error_form, tuple(ErrorScope)),
)


def answers(responses: ProbeResponses, baseline: ProbeBaseline, now: datetime) -> list[ProbeResult]:
    """Return the answer to every question, from the responses or from stored data."""
    stored = (("sum of queues", _sum_of_queues(baseline)), ("a closed hour", _closed_hour(baseline)))
    return [_answer(question, responses, now) for question in _QUESTIONS] + [
        ProbeResult(text, found.answer, found.certainty, now) for text, found in stored
    ]


def _answer(question: _Question, responses: ProbeResponses, now: datetime) -> ProbeResult:
    request = question.request if isinstance(question.request, ProbeRequest) else question.request(responses)
    if request not in responses:
        return ProbeResult(question.text, "not asked", Confidence.OPEN, now)
    answer = responses[request].answer
    reply, window = answer.reply, answer.window
    if isinstance(reply, SuccessPayload) or is_error(reply, question.accepts_errors):
        found = question.interpret(responses, request)
    else:
        found = _open(f"no answer: {reply.code}")
    return ProbeResult(
        question.text, found.answer, found.certainty, answer.requested_at, window.series, window.start, answer.status
    )


def _sum_of_queues(baseline: ProbeBaseline) -> Interpretation:
    if not baseline.split_days:
        return _open("no closed day with queues is stored")
    answer = f"is the total on {baseline.explained_days:,} of {baseline.split_days:,} closed days with spend"
    return Interpretation(answer) if baseline.explained_days == baseline.split_days else _likely(answer)


def _closed_hour(baseline: ProbeBaseline) -> Interpretation:
    if baseline.corrected:
        latest = (baseline.latest or timedelta(0)) // HOUR
        answer = f"changed in {baseline.corrected:,} of {baseline.hours:,} hours, seen up to {latest:,} h after its end"
        return Interpretation(answer)
    return _likely(f"no change seen in {baseline.hours:,} hours") if baseline.hours else _open("no hours are stored")
