"""What an answer says, read a second time: slowly, on exact fractions, sharing no code with what it judges.

``judge`` sets the program's reading beside it.
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
from tests.property.hostile import Came, Context

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME = 253_402_300_800
_MOST_ELEMENTS = 10_000
_MOST_DEPTH = 32
_MOST_RAW = 2_000
_MOST_MESSAGE = 500


class Literal(str):
    """A number as JSON spelled it, told from a text."""

    __slots__ = ()


class _RefusedError(Exception):
    """No one value that could be read."""


class UnsureError(Exception):
    """The fractions give up: an exponent of 16 digits or more, where decimals may or may not."""


# ---------------------------------------------------------------- numbers

_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?)([0-9]+))?")
_BEYOND = Fraction(10**40)
_TINY = Fraction(1, 10**400)


def rational(value: object) -> Fraction | None:
    """The number that ``value`` spells, exact for every question asked here: is it whole, is it in range, how does it
    round.

    Beyond 10**30 it is 10**40; what follows its first hundred digits counts only as being there. None: it spells no
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
        return sign * _BEYOND
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
    rounded = round(found * 10**9)  # of a fraction: half to even
    return rounded if abs(rounded) < 10**18 else None


# ---------------------------------------------------------------- bodies


def _elements(came: Came) -> list[object]:
    """The elements of a good reply's ``data``. Raises ``_RefusedError`` for every other reply."""
    if 300 <= came.status < 400:
        raise _RefusedError
    text = came.body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
    if _depth(text) > _MOST_DEPTH:
        raise _RefusedError
    try:
        parsed = json.loads(
            text, parse_int=Literal, parse_float=Literal, parse_constant=_constant, object_pairs_hook=_unambiguous
        )
    except ValueError:
        raise _RefusedError from None
    if not isinstance(parsed, dict):
        raise _RefusedError
    error_id, found = parsed.get("errorId"), parsed.get("data")
    if error_id not in ("0", Literal("0")) and not (isinstance(error_id, Literal) and error_id == "-0"):
        raise _RefusedError
    listed = [] if found is None else list(found.values()) if isinstance(found, dict) else found
    if not isinstance(listed, list) or len(listed) > _MOST_ELEMENTS:
        raise _RefusedError
    return listed


def _constant(text: str) -> object:
    raise _RefusedError(text)


def _unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if max(Counter(name for name, _ in pairs).values(), default=0) > 1:
        raise _RefusedError
    return dict(pairs)


_ENDLESS = re.compile(rb"[eE][+-]?0*[1-9][0-9]{15}")
"""An exponent beyond what a Decimal can hold: refused with the whole answer."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


def _depth(text: str) -> int:
    """How deep brackets nest outside of strings. Of what is no JSON some number."""
    if text.count("[") + text.count("{") <= _MOST_DEPTH:
        return 0
    depth = deepest = 0
    for character in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += _STEP[character]
        deepest = max(deepest, depth)
    return deepest


# ---------------------------------------------------------------- readings


@dataclass
class Interpretation:
    """What a good reply's elements amount to, in seconds and billionths of a dollar."""

    records: dict[int, tuple[int, int]] = field(default_factory=dict)
    rejected: Counter[int | None] = field(default_factory=Counter)
    lost: int = 0
    outside: int = 0
    off_grid: bool = False
    other_hours: bool = False

    @property
    def uncovered(self) -> bool:
        return any(hour not in self.records for hour in self.rejected)


def _faults(element: object) -> Iterator[str]:
    """The fields for which an element is no record."""
    fields = element if isinstance(element, dict) else {}
    begins, ends = _integer(fields.get("dateFrom")), _integer(fields.get("dateTill"))
    if begins is None or not 0 <= begins < _END_OF_TIME:
        yield "dateFrom"
    if ends is None or (begins is not None and not begins <= ends < begins + 3600):
        yield "dateTill"
    volume = _integer(fields.get("volume"))
    if volume is None or volume < 0:
        yield "volume"
    if _billionths(fields.get("money")) is None:
        yield "money"


def _hour(element: object) -> int | None:
    begins = _integer(element.get("dateFrom")) if isinstance(element, dict) else None
    return begins if begins is not None and 0 <= begins < _END_OF_TIME else None


def _shown_offset(start: int, end: int, hours: set[int]) -> int:
    """Where the account's hours begin: after the requested hour only if the day's last hour is there."""
    first = min(hours, default=start)
    past = (first - start) % 3600
    begins_after = first >= start and max(hours, default=start) >= end - 3600
    return past if begins_after or not past else past - 3600


def said(elements: list[object], context: Context) -> Interpretation:
    """What the elements say of the window asked for."""
    good: list[tuple[int, int, int]] = []
    bad: list[int | None] = []
    for element in elements:
        if any(_faults(element)):
            bad.append(_hour(element))
        else:
            assert isinstance(element, dict)
            begins, volume = _integer(element["dateFrom"]), _integer(element["volume"])
            amount = _billionths(element["money"])
            assert begins is not None
            assert volume is not None
            assert amount is not None
            good.append((begins, volume, amount))
    start, end = (int(at.timestamp()) for at in (context.window.start, context.window.end))
    grid = context.grid
    if grid is None:
        grid = _shown_offset(start, int(context.window.end.timestamp()), {hour for hour, _, _ in good})
    found = Interpretation(off_grid=any((hour - start - grid) % 3600 for hour, _, _ in good))
    last = min(end + grid - 1, int(context.requested_at.timestamp()))
    own = [record for record in good if start + grid <= record[0] <= last]
    found.rejected = Counter(hour for hour in bad if hour is None or start + grid <= hour <= last)
    found.outside = len(elements) - len(own) - found.rejected.total()
    found.other_hours = not own and any(hour < start + grid for hour, _, _ in good)
    for hour, *value in sorted(set(own)):
        found.lost += hour in found.records
        found.records[hour] = (value[0], value[1])
    return found


# ---------------------------------------------------------------- the promises

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
    """The program's reading and the oracle's differ."""


def _hold(kept: bool, promise: str) -> None:
    if not kept:
        raise PromiseBrokenError(promise)


def judge(came: Came) -> tuple[str, str]:
    """The outcome and its code, of an answer of which every promise was kept. Raises ``PromiseBrokenError``."""
    reply = protocol.parse_response(came.status, came.body, came.location)
    answer = Response(came.context.window, came.context.requested_at, reply, came.status, came.body)
    snapshot = parse.parse_snapshot(answer, 1, came.context.grid)
    _judge_headers(came)
    try:
        elements = _elements(came)
    except _RefusedError:
        _judge_refusal(reply, snapshot)
        return snapshot.outcome, snapshot.code
    if isinstance(reply, InvalidResponse) and _ENDLESS.search(came.body):
        _judge_refusal(reply, snapshot)
        return snapshot.outcome, snapshot.code
    _hold(isinstance(reply, SuccessPayload), "what can be read is read")
    try:
        _judge_reading(snapshot, said(elements, came.context))
        _judge_rejections(snapshot, elements)
    except UnsureError:
        return "unsure", ""
    return snapshot.outcome, snapshot.code


def _judge_headers(came: Came) -> None:
    at = retry.http_date(came.date)
    _hold(at is None or at.tzinfo is UTC, "a date header is a time in UTC or nothing")
    seconds = retry.retry_after_seconds(came.retry_after, came.context.requested_at)
    _hold(seconds is None or 0 <= seconds <= retry.MAX_RETRY_AFTER_SECONDS, "a pause asked for is bounded")


def _is_said(text: str) -> bool:
    return bool(text.strip()) and text.isprintable() and len(text) <= _MOST_MESSAGE


def _judge_refusal(reply: object, snapshot: Snapshot) -> None:
    _hold(not isinstance(reply, SuccessPayload), "what cannot be read is refused")
    _hold(
        not snapshot.records and not snapshot.rejections and not snapshot.out_of_window,
        "a refused answer holds nothing",
    )
    _hold(bool(snapshot.code) and _is_said(snapshot.message), "a refusal says why in one printable line")
    _hold("points to ;" not in snapshot.message, "a redirect's message is a sentence")
    if isinstance(reply, ApiError):
        _hold(
            snapshot.outcome is Outcome.API_ERROR and snapshot.error_scope is reply.scope, "an API error is a refusal"
        )
        _hold(_is_said(reply.code) and len(reply.code) <= 64, "an error has a code")
        _hold(
            (reply.code.removeprefix("ERROR_") in _ACCOUNT) is (reply.scope is ErrorScope.ACCOUNT),
            "a code says what it ends",
        )
        _hold(reply.code not in ("True", "False", "None", "(not a text)"), "what is no text is no code")
    else:
        _hold(snapshot.outcome is Outcome.FAILED, "what is unreadable is broken")
        _hold(_CODES.fullmatch(snapshot.code) is not None, "what is unreadable has a known code")


def _judge_reading(snapshot: Snapshot, expected: Interpretation) -> None:
    if expected.off_grid or expected.other_hours:
        code = parse.OFF_GRID if expected.off_grid else parse.OTHER_HOURS
        _hold(
            (snapshot.outcome, snapshot.code, snapshot.records) == (Outcome.FAILED, code, ()),
            "hours of another window are refused",
        )
        _hold(_is_said(snapshot.message), "a refusal says why in one printable line")
        return
    stored_facts = {(record.hour_start - _EPOCH) // timedelta(seconds=1): record for record in snapshot.records}
    values = {hour: (record.volume, int(Fraction(record.money) * 10**9)) for hour, record in stored_facts.items()}
    _hold(values == expected.records, "records are what the bytes say, all of them")
    _hold(
        list(stored_facts) == sorted(stored_facts) and len(stored_facts) == len(snapshot.records),
        "one record an hour, in order",
    )
    for record in snapshot.records:
        _hold(type(record.volume) is int and type(record.money) is Decimal, "numbers are exact")
        _hold(
            record.money.as_tuple().exponent == -9 and str(record.money) != "-0E-9",
            "money has nine places and zero no sign",
        )
    _hold(sum(v for v, _ in values.values()) == sum(v for v, _ in expected.records.values()), "volume adds up")
    _hold(
        len(snapshot.rejections) == expected.rejected.total() + expected.lost,
        "each bad or losing element is one rejection",
    )
    _hold(snapshot.out_of_window == expected.outside, "what is outside the window is counted")
    outcome = Outcome.SUCCESS if not expected.uncovered else Outcome.PARTIAL if expected.records else Outcome.FAILED
    _hold(snapshot.outcome is outcome, "a rejection that leaves an hour uncovered fails the window, no other")
    _hold(
        snapshot.is_success or (snapshot.code == parse.REJECTED and _is_said(snapshot.message)),
        "a failed window says why",
    )
    if snapshot.is_success:
        parse.infer_hour_offset(snapshot.window, snapshot.values_by_hour)


def _judge_rejections(snapshot: Snapshot, elements: list[object]) -> None:
    if len(elements) > 300 and len(snapshot.rejections) > 300:
        return  # the same few elements over and over
    for rejection in snapshot.rejections:
        _hold(_REASON.fullmatch(rejection.reason) is not None, "a rejection's reason is one that a person knows")
        _hold(
            len(rejection.raw) <= _MOST_RAW and rejection.raw.isascii() and rejection.raw.isprintable(),
            "raw text is bounded",
        )
        _hold(
            any(_is_of(rejection, element) for element in elements),
            "a rejection keeps its element's text and names its fault",
        )


def _is_of(rejection: Rejection, element: object) -> bool:
    if "another record" not in rejection.reason and not any(fault in rejection.reason for fault in _named(element)):
        return False
    text = _compact(element)
    if len(rejection.raw) < _MOST_RAW or len(text) <= _MOST_RAW:
        return rejection.raw == text
    return rejection.raw == text[:_MOST_RAW]


def _named(element: object) -> Iterator[str]:
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
