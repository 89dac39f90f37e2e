"""A second, slow parser of responses that works on exact fractions and shares no code with the program.

``compare`` checks the program's result against it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from etl.extract import protocol, retry
from etl.models import ErrorScope, Outcome, Rejection, Snapshot
from etl.responses import ApiError, InvalidResponse, Response, SuccessPayload
from etl.transform import parse
from tests.core import records_of
from tests.property.hostile import Context, HttpResponse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME = 253_402_300_800
_MAX_ELEMENTS = 10_000
_MAX_DEPTH = 32
_MAX_RAW_LENGTH = 2_000
_MAX_MESSAGE_LENGTH = 500


class Literal(str):
    """The text of a JSON number, to distinguish it from a JSON string."""

    __slots__ = ()


class _UnreadableError(Exception):
    """The response has no usable data."""


class UnsureError(Exception):
    """The oracle cannot decide: an exponent of 16 or more digits may or may not fit a Decimal."""


# ---------------------------------------------------------------- numbers

_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?)([0-9]+))?")
_HUGE = Fraction(10**40)
_TINY = Fraction(1, 10**400)


def rational(value: object) -> Fraction | None:
    """Return the number in the text ``value``, exact enough to decide whether it is an integer, in range, and how it rounds.

    A number above 10**30 becomes 10**40, and digits after the first hundred only count as a tiny amount. None: not a
    number.
    """
    return _spelled(value.strip(" ")) if isinstance(value, str) else None


@lru_cache(maxsize=1_000)
def _spelled(text: str) -> Fraction | None:
    found = _NUMBER.fullmatch(text)
    if found is None or not (found[2] or found[3]):
        return None
    sign, whole, part = -1 if found[1] == "-" else 1, found[2], found[3] or ""
    exponent = (found[5] or "").lstrip("0")
    if len(exponent) > 15:
        raise UnsureError
    digits = (whole + part).lstrip("0")
    if not digits:
        return Fraction(0)
    point = len(digits) - len(part) + int(exponent or 0) * (-1 if found[4] == "-" else 1)
    if point > 30:
        return sign * _HUGE
    if point < -30:
        return sign * _TINY
    first, later = digits[:100], digits[100:].strip("0")
    places = len(first) - point
    value = Fraction(sign * int(first) * 10 ** max(-places, 0), 10 ** max(places, 0))
    return value + sign * _TINY if later else value


def _integer(value: object) -> int | None:
    found = rational(value)
    return int(found) if found is not None and found.denominator == 1 and -(2**63) <= found < 2**63 else None


def _billionths(value: object) -> int | None:
    found = rational(value)
    if found is None:
        return None
    rounded = round(found * 10**9)  # rounds a fraction half to even
    return rounded if abs(rounded) < 10**18 else None


# ---------------------------------------------------------------- bodies


def _elements(response: HttpResponse) -> list[object]:
    """Return the elements of ``data`` of a successful response. Raises ``_RefusedError`` for all other responses."""
    if 300 <= response.status < 400:
        raise _UnreadableError
    text = response.body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
    if _depth(text) > _MAX_DEPTH:
        raise _UnreadableError
    try:
        parsed = json.loads(
            text,
            parse_int=Literal,
            parse_float=Literal,
            parse_constant=_constant,
            object_pairs_hook=_reject_duplicate_keys,
        )
    except ValueError:
        raise _UnreadableError from None
    if not isinstance(parsed, dict):
        raise _UnreadableError
    error_id, found = parsed.get("errorId"), parsed.get("data")
    if error_id not in ("0", Literal("0")) and not (isinstance(error_id, Literal) and error_id == "-0"):
        raise _UnreadableError
    listed = [] if found is None else list(found.values()) if isinstance(found, dict) else found
    if not isinstance(listed, list) or len(listed) > _MAX_ELEMENTS:
        raise _UnreadableError
    return listed


def _constant(text: str) -> object:
    raise _UnreadableError(text)


def _reject_duplicate_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if max(Counter(name for name, _ in pairs).values(), default=0) > 1:
        raise _UnreadableError
    return dict(pairs)


_HUGE_EXPONENT = re.compile(rb"[eE][+-]?0*[1-9][0-9]{15}")
"""An exponent too large for a Decimal, which makes the whole response invalid."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


def _depth(text: str) -> int:
    """Return the nesting depth of brackets outside strings; any number if the text is not JSON."""
    if text.count("[") + text.count("{") <= _MAX_DEPTH:
        return 0
    depth = deepest = 0
    for character in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += _STEP[character]
        deepest = max(deepest, depth)
    return deepest


# ---------------------------------------------------------------- snapshots


@dataclass
class ExpectedContent:
    """The expected content of a successful response, in seconds and billionths of a dollar."""

    records: dict[int, tuple[int, int]] = field(default_factory=dict)
    rejected: Counter[int | None] = field(default_factory=Counter)
    duplicates: int = 0
    out_of_window: int = 0
    has_other_offset: bool = False
    has_only_earlier_hours: bool = False

    @property
    def has_uncovered_hours(self) -> bool:
        return any(hour not in self.records for hour in self.rejected)


def _faults(element: object) -> Iterator[str]:
    """Yield the fields that make an element unusable as a record."""
    fields = element if isinstance(element, dict) else {}
    start_second, end_second = _integer(fields.get("dateFrom")), _integer(fields.get("dateTill"))
    if start_second is None or not 0 <= start_second < _END_OF_TIME:
        yield "dateFrom"
    if end_second is None or (start_second is not None and not start_second <= end_second < start_second + 3600):
        yield "dateTill"
    volume = _integer(fields.get("volume"))
    if volume is None or volume < 0:
        yield "volume"
    if _billionths(fields.get("money")) is None:
        yield "money"


def _hour(element: object) -> int | None:
    start_second = _integer(element.get("dateFrom")) if isinstance(element, dict) else None
    return start_second if start_second is not None and 0 <= start_second < _END_OF_TIME else None


def _shown_offset(start: int, end: int, hours: set[int]) -> int:
    """Return the hour offset; it is positive only if the last hour of the day is present."""
    first = min(hours, default=start)
    past = (first - start) % 3600
    begins_after = first >= start and max(hours, default=start) >= end - 3600
    return past if begins_after or not past else past - 3600


def expected_content(elements: list[object], context: Context) -> ExpectedContent:
    """Return the expected content of the requested window."""
    good: list[tuple[int, int, int]] = []
    bad: list[int | None] = []
    for element in elements:
        if any(_faults(element)):
            bad.append(_hour(element))
        else:
            assert isinstance(element, dict)
            start_second, volume = _integer(element["dateFrom"]), _integer(element["volume"])
            amount = _billionths(element["money"])
            assert start_second is not None
            assert volume is not None
            assert amount is not None
            good.append((start_second, volume, amount))
    start, end = (int(at.timestamp()) for at in (context.window.start, context.window.end))
    hour_offset = context.hour_offset
    if hour_offset is None:
        begun = {hour for hour, _, _ in good if hour <= int(context.requested_at.timestamp())}
        hour_offset = _shown_offset(start, int(context.window.end.timestamp()), begun)
    found = ExpectedContent(has_other_offset=any((hour - start - hour_offset) % 3600 for hour, _, _ in good))
    last = min(end + hour_offset - 1, int(context.requested_at.timestamp()))
    in_window = [record for record in good if start + hour_offset <= record[0] <= last]
    found.rejected = Counter(hour for hour in bad if hour is None or start + hour_offset <= hour <= last)
    found.out_of_window = len(elements) - len(in_window) - found.rejected.total()
    found.has_only_earlier_hours = not in_window and any(hour <= start - 3600 for hour, _, _ in good)
    for hour, *value in sorted(set(in_window)):
        found.duplicates += hour in found.records
        found.records[hour] = (value[0], value[1])
    return found


# ---------------------------------------------------------------- comparison

_REASON = re.compile(
    r"(?:dateFrom|dateTill|volume|money) is (?:missing|out of range|not a (?:time|number|whole number))"
    r"|dateTill before dateFrom|spans more than one hour|negative volume"
    r"|another record of this hour has more: volume [0-9]+, money -?[0-9]+\.[0-9]{9}"
)
_CODES = re.compile(
    r"redirect|http_[0-9]+|empty_body|html|not_json|too_deep|not_a_number|number_out_of_range|duplicate_key|no_error_id"
    r"|data_not_a_list|too_many_records"
)
_ACCOUNT = {"KEY_DOES_NOT_EXIST", "IP_NOT_ALLOWED", "NO_SUCH_METHOD", "IP_BLOCKED", "ACCOUNT_SUSPENDED", "ZERO_BALANCE"}


class PromiseBrokenError(AssertionError):
    """The program's result and the oracle's differ."""


def _require(condition: bool, promise: str) -> None:
    if not condition:
        raise PromiseBrokenError(promise)


def compare(response: HttpResponse) -> tuple[str, str]:
    """Return the outcome and its code after checking all promises. Raises ``PromiseBrokenError``."""
    reply = protocol.parse_response(response.status, response.body, response.location)
    raw_response = Response(
        response.context.window, response.context.requested_at, reply, response.status, response.body
    )
    snapshot = parse.parse_snapshot(raw_response, 1, response.context.hour_offset)
    _check_headers(response)
    try:
        elements = _elements(response)
    except _UnreadableError:
        _check_error(reply, snapshot)
        return snapshot.outcome, snapshot.code
    if isinstance(reply, InvalidResponse) and _HUGE_EXPONENT.search(response.body):
        _check_error(reply, snapshot)
        return snapshot.outcome, snapshot.code
    _require(isinstance(reply, SuccessPayload), "readable data is read")
    try:
        _check_content(snapshot, expected_content(elements, response.context))
        _check_rejections(snapshot, elements)
    except UnsureError:
        return "unsure", ""
    return snapshot.outcome, snapshot.code


def _check_headers(response: HttpResponse) -> None:
    at = retry.http_date(response.date)
    _require(at is None or at.tzinfo is UTC, "a date header is a time in UTC or nothing")
    seconds = retry.retry_after_seconds(response.retry_after, response.context.requested_at)
    _require(seconds is None or 0 <= seconds <= retry.MAX_RETRY_AFTER_SECONDS, "a requested pause is bounded")


def _is_printable_message(text: str) -> bool:
    return bool(text.strip()) and text.isprintable() and len(text) <= _MAX_MESSAGE_LENGTH


def _check_error(reply: object, snapshot: Snapshot) -> None:
    _require(not isinstance(reply, SuccessPayload), "unreadable data is an error")
    _require(
        not records_of(snapshot) and not snapshot.rejections and not snapshot.out_of_window,
        "a failed snapshot is empty",
    )
    _require(
        bool(snapshot.code) and _is_printable_message(snapshot.message), "an error has a reason in one printable line"
    )
    _require("points to ;" not in snapshot.message, "a redirect's message is a sentence")
    if isinstance(reply, ApiError):
        _require(
            snapshot.outcome is Outcome.API_ERROR and snapshot.error_scope is reply.scope, "an API error is a refusal"
        )
        _require(_is_printable_message(reply.code) and len(reply.code) <= 64, "an error has a code")
        _require(
            (reply.code.removeprefix("ERROR_") in _ACCOUNT) is (reply.scope is ErrorScope.ACCOUNT),
            "an error code has the right scope",
        )
        _require(
            reply.code not in ("True", "False", "None", "(not a text)"), "a value that is not text is not an error code"
        )
    else:
        _require(snapshot.outcome is Outcome.FAILED, "an unreadable response fails")
        _require(_CODES.fullmatch(snapshot.code) is not None, "an unreadable response has a known code")


def _check_content(snapshot: Snapshot, expected: ExpectedContent) -> None:
    if expected.has_other_offset or expected.has_only_earlier_hours:
        code = parse.OFF_GRID if expected.has_other_offset else parse.OTHER_HOURS
        _require(
            (snapshot.outcome, snapshot.code, records_of(snapshot)) == (Outcome.FAILED, code, ()),
            "hours of another window fail the snapshot",
        )
        _require(_is_printable_message(snapshot.message), "an error has a reason in one printable line")
        return
    stored_facts = {(record.hour_start - _EPOCH) // timedelta(seconds=1): record for record in records_of(snapshot)}
    values = {hour: (record.volume, int(Fraction(record.money) * 10**9)) for hour, record in stored_facts.items()}
    _require(values == expected.records, "all records equal the data of the response")
    _require(
        list(stored_facts) == sorted(stored_facts) and len(stored_facts) == len(records_of(snapshot)),
        "one record an hour, in order",
    )
    for record in records_of(snapshot):
        _require(type(record.volume) is int and type(record.money) is Decimal, "numbers are exact")
        _require(
            record.money.as_tuple().exponent == -9 and str(record.money) != "-0E-9",
            "money has nine places and zero no sign",
        )
    _require(sum(v for v, _ in values.values()) == sum(v for v, _ in expected.records.values()), "volume adds up")
    _require(
        len(snapshot.rejections) == expected.rejected.total() + expected.duplicates,
        "each bad or duplicate element is one rejection",
    )
    _require(snapshot.out_of_window == expected.out_of_window, "elements outside the window are counted")
    outcome = (
        Outcome.SUCCESS if not expected.has_uncovered_hours else Outcome.PARTIAL if expected.records else Outcome.FAILED
    )
    _require(snapshot.outcome is outcome, "a rejection that leaves an hour uncovered fails the window, no other")
    _require(
        snapshot.is_success or (snapshot.code == parse.REJECTED and _is_printable_message(snapshot.message)),
        "a failed window has a reason",
    )


def _check_rejections(snapshot: Snapshot, elements: list[object]) -> None:
    if len(elements) > 300 and len(snapshot.rejections) > 300:
        return  # the same few elements repeated
    for rejection in snapshot.rejections:
        _require(_REASON.fullmatch(rejection.reason) is not None, "a rejection has a documented reason")
        _require(
            len(rejection.raw) <= _MAX_RAW_LENGTH and rejection.raw.isascii() and rejection.raw.isprintable(),
            "raw text is bounded",
        )
        _require(
            any(_belongs_to(rejection, element) for element in elements),
            "a rejection has its element's text and names the wrong field",
        )


def _belongs_to(rejection: Rejection, element: object) -> bool:
    if "another record" not in rejection.reason and not any(
        fault in rejection.reason for fault in _fault_names(element)
    ):
        return False
    text = _compact(element)
    if len(rejection.raw) < _MAX_RAW_LENGTH or len(text) <= _MAX_RAW_LENGTH:
        return rejection.raw == text
    return rejection.raw == text[:_MAX_RAW_LENGTH]


def _fault_names(element: object) -> Iterator[str]:
    for fault in _faults(element):
        yield fault
        if fault == "dateTill":
            yield "spans"


def _compact(value: object) -> str:
    """JSON without spaces, numbers as decimals print them."""
    if isinstance(value, Literal):
        return str(Decimal(value)) if set(value) & set(".eE") or len(value) > 90 else str(int(value))
    if isinstance(value, list):
        return "[" + ",".join(_compact(inner) for inner in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(name) + ":" + _compact(inner) for name, inner in value.items()) + "}"
    return json.dumps(value)
