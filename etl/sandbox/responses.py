"""What the stand-in API answers: the records of a query, as JSON, with faults on request."""

import json
from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from email.utils import format_datetime
from http import HTTPStatus
from typing import Literal, NamedTuple

from etl.sandbox.behaviour import ApiQuery, Behaviour, Fault, FaultKind
from etl.sandbox.dataset import DAY, HOUR, Dataset


class ApiError(NamedTuple):
    error_id: int
    code: str
    description: str


KEY_DOES_NOT_EXIST = ApiError(1, "ERROR_KEY_DOES_NOT_EXIST", "Account authorization key not found in the system")
NO_SUCH_METHOD = ApiError(14, "ERROR_NO_SUCH_METHOD", "Request made to API with method which does not exist")
# The vendor documents no number for the next one, and neither code nor number for the two after it.
ACCESS_DENIED = ApiError(60, "ERROR_ACCESS_DENIED", "You have no access to this data")
INCORRECT_QUEUE = ApiError(61, "ERROR_INCORRECT_QUEUE", "Queue not found")
INCORRECT_REQUEST = ApiError(62, "ERROR_INCORRECT_REQUEST", "Unknown or mistyped property")

API_FAULTS = {
    FaultKind.REFUSE_KEY: KEY_DOES_NOT_EXIST,
    FaultKind.IP_BLOCKED: ApiError(21, "ERROR_IP_BLOCKED", "Your IP is blocked due to improper API usage"),
    FaultKind.SUSPENDED: ApiError(55, "ERROR_ACCOUNT_SUSPENDED", "Account is suspended"),
    FaultKind.IP_NOT_ALLOWED: ApiError(
        11, "ERROR_IP_NOT_ALLOWED", "Request with current account key is not allowed from your IP"
    ),
    FaultKind.ZERO_BALANCE: ApiError(10, "ERROR_ZERO_BALANCE", "Account has zero or negative balance"),
    FaultKind.ACCESS_DENIED: ACCESS_DENIED,
    FaultKind.UNKNOWN_CODE: ApiError(12, "ERROR_NEVER_SEEN_BEFORE", "Something new"),
    FaultKind.NO_SLOT: ApiError(2, "ERROR_NO_SLOT_AVAILABLE", "No idle workers are available at the moment"),
}
HTML_FAULTS = {FaultKind.HTML: 200, FaultKind.HTML_500: 500, FaultKind.HTML_502: 502, FaultKind.HTML_503: 503}
HTML_PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><h1>Sorry</h1></body></html>"

_VENDOR_RECORDS = (
    '{"dateFrom":1550533500,"dateTill":1550537099,"volume":1899,"money":7.495948}',
    '{"dateFrom":1550537100,"dateTill":1550540699,"volume":2217,"money":7.861741}',
    '{"dateFrom":1550612700,"dateTill":1550616299,"volume":2156,"money":7.827058}',
)
FIXED_BODIES = {
    FaultKind.VENDOR_EXAMPLE: f'{{"errorId":0,"data":[{",".join(_VENDOR_RECORDS)}]}}',
    FaultKind.VENDOR_PAGE: '{{"errorId":0,"data":[{},\n{},\n.....\n{}]}}'.format(*_VENDOR_RECORDS),
    FaultKind.NULL_DATA: '{"errorId":0,"data":null}',
    FaultKind.NO_DATA: '{"errorId":0}',
}


class Record(NamedTuple):
    """One bucket of a response; ``date_from`` is Unix seconds."""

    date_from: int
    volume: int
    money: Decimal


def records(dataset: Dataset, behaviour: Behaviour, query: ApiQuery, now: int) -> list[Record] | ApiError:
    """Return the response to a query at the Unix second ``now``."""
    resolved = _resolve_members(dataset, behaviour, query)
    if isinstance(resolved, ApiError):
        return resolved
    date_from = now - DAY if query.date is None else query.date
    if behaviour.retention_days is not None and date_from < now - behaviour.retention_days * DAY:
        return []
    # Another grid is the same history with a shifted time axis.
    start, as_of = date_from - behaviour.grid_seconds, now - behaviour.grid_seconds
    if query.date is not None and behaviour.off_hour == "snap":
        start -= start % HOUR
    end = start + behaviour.buckets * HOUR
    if not behaviour.unbegun:
        end = min(end, as_of if behaviour.running else as_of - HOUR + 1)
    found = [
        Record(second + behaviour.grid_seconds, *_bucket(dataset, resolved, second, as_of))
        for second in range(start, end, HOUR)
    ]
    if behaviour.idle == "omit":
        found = [record for record in found if record.volume or record.money]
    return _with_duplicate(found, behaviour.duplicates)


def _resolve_members(dataset: Dataset, behaviour: Behaviour, query: ApiQuery) -> ApiQuery | ApiError:
    """Apply the behaviour for unknown members: refuse the query, keep the member (no spend), or ignore the member."""
    rules: tuple[tuple[str, Container[object], str, ApiError], ...] = (
        ("queue", dataset.names, behaviour.unknown_queue, INCORRECT_QUEUE),
        ("soft_id", dataset.apps, behaviour.foreign_app, ACCESS_DENIED),
        ("ip", dataset.ips, behaviour.foreign_ip, ACCESS_DENIED),
    )
    for name, known, rule, error in rules:
        member = getattr(query, name)
        if member is None or member in known or rule == "zeros":
            continue
        if rule == "error":
            return error
        query = query._replace(**{name: None})
    return query


def _bucket(dataset: Dataset, query: ApiQuery, start: int, as_of: int) -> tuple[int, Decimal]:
    """Return the hour from any second on. Inside an hour: the proportional parts of both hours it overlaps."""
    volume, money = _hour(dataset, query, start, as_of)
    second = start % HOUR
    if second == 0:
        return volume, money
    if query.queue is None:  # rounded per queue, so that the queues add up to the total
        parts = [_bucket(dataset, query._replace(queue=name), start, as_of) for name in dataset.names]
        return sum(volume for volume, _ in parts), sum((money for _, money in parts), Decimal(0))
    next_volume, next_money = _hour(dataset, query, start + HOUR, as_of)
    unit = Decimal(1).scaleb(-dataset.places)
    return (
        volume - volume * second // HOUR + next_volume * second // HOUR,
        money - (money * second / HOUR).quantize(unit) + (next_money * second / HOUR).quantize(unit),
    )


def _hour(dataset: Dataset, query: ApiQuery, start: int, as_of: int) -> tuple[int, Decimal]:
    day, second = divmod(start, DAY)
    return dataset.day(day, as_of, query.queue, query.soft_id, query.ip)[second // HOUR]


def _with_duplicate(found: list[Record], duplicates: Literal["none", "identical", "differing"]) -> list[Record]:
    if duplicates == "none" or not found:
        return found
    middle = len(found) // 2
    copy = found[middle]
    if duplicates == "differing":
        copy = copy._replace(volume=copy.volume // 2, money=(copy.money / 2).quantize(copy.money))
    return [*found[:middle], copy, *found[middle:]]


def _record_json(record: Record, numbers: Literal["number", "string", "noise"]) -> str:
    date_from, volume, money = record
    quote = '"' if numbers == "string" else ""
    amount = {"number": _shortest, "string": "{:f}".format, "noise": _noisy}[numbers](money)
    return (
        f'{{"dateFrom":{date_from},"dateTill":{date_from + HOUR - 1},'
        f'"volume":{quote}{volume}{quote},"money":{quote}{amount}{quote}}}'
    )


def _shortest(money: Decimal) -> str:
    return f"{money:f}".rstrip("0").rstrip(".") if money else "0"


def _noisy(money: Decimal) -> str:
    """Format as PHP prints a float with 17 digits, with an exponent below one dollar."""
    if not money or not money.is_finite():
        return f"{money:f}" if money else "0"
    digits = f"{float(money):.17g}"
    return digits if abs(money) >= 1 else f"{Decimal(digits):e}"


_DAMAGES: dict[FaultKind | None, Callable[[Record], Record]] = {
    FaultKind.NAN: lambda record: record._replace(money=Decimal("NaN")),
    FaultKind.NEGATIVE: lambda record: record._replace(money=-max(record.money, Decimal("0.000001"))),
    FaultKind.NEGATIVE_VOLUME: lambda record: record._replace(volume=-max(record.volume, 1)),
}


def _success_json(found: list[Record], behaviour: Behaviour, fault: FaultKind | None) -> str:
    """Return a success, damaged if the fault is of that kind."""
    if fault in FIXED_BODIES:
        return FIXED_BODIES[fault]
    if found and fault in _DAMAGES:
        largest = max(range(len(found)), key=lambda index: found[index].money)
        found = [*found[:largest], _DAMAGES[fault](found[largest]), *found[largest + 1 :]]
    texts = [_record_json(record, behaviour.numbers) for record in found]
    error_id = '"0"' if fault is FaultKind.ERROR_ID_STRING else "0"
    if behaviour.listed == "object":
        members = ",".join(f'"{index}":{text}' for index, text in enumerate(texts))
        return f'{{"errorId":{error_id},"data":{{{members}}}}}'
    return f'{{"errorId":{error_id},"data":[{",".join(texts)}]}}'


@dataclass(frozen=True, slots=True)
class Response:
    """What is sent. ``fault`` says how, if it concerns the transport."""

    body: bytes
    status: int = 200
    content_type: str = "application/json; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    fault: Fault | None = None
    date: datetime | None = None

    def head(self, length: int | None) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            "Server: sandbox",
            *([f"Date: {format_datetime(self.date, usegmt=True)}"] if self.date else []),
            f"Content-Type: {self.content_type}",
            *(f"{name}: {value}" for name, value in self.headers),
            "Connection: close" if length is None else f"Content-Length: {length}",
        ]
        return "\r\n".join((*lines, "", "")).encode("latin-1")


def balance(dataset: Dataset, behaviour: Behaviour, now: datetime) -> str | ApiError:
    """Return what is left of the deposits at a time, as JSON."""
    if behaviour.balance_form == "error":
        return NO_SUCH_METHOD
    if behaviour.balance_form == "missing":
        return '{"errorId":0}'
    paid = sum((money for at, money in behaviour.deposits if at <= now), Decimal(0))
    days = range((dataset.begins - date(1970, 1, 1)).days, int(now.timestamp()) // DAY + 1)
    spent = sum((money for day in days for _, money in dataset.day(day, int(now.timestamp()))), Decimal(0))
    quote = '"' if behaviour.balance_form == "string" else ""
    text = _noisy(paid - spent) if behaviour.balance_form == "noise" else f"{paid - spent:f}"
    return f'{{"errorId":0,"balance":{quote}{text}{quote},"captchaCredits":0}}'


def response(fault: Fault | None, answer: list[Record] | ApiError | str, behaviour: Behaviour) -> Response:
    kind = fault.kind if fault else None
    if kind in HTML_FAULTS:
        return Response(HTML_PAGE, HTML_FAULTS[kind], "text/html; charset=utf-8")
    if fault and kind is FaultKind.RETRY_AFTER:
        return Response(b"Too many requests", 429, "text/plain", (("Retry-After", fault.retry_after),))
    if kind is FaultKind.REDIRECT:
        return Response(b"", 302, "text/plain", (("Location", "/elsewhere"),))
    if kind is FaultKind.EMPTY:
        return Response(b"")
    error = API_FAULTS.get(kind, answer) if kind else answer
    if isinstance(error, str):
        return Response(error.encode(), fault=fault)
    if isinstance(error, ApiError):
        body = json.dumps({"errorId": error.error_id, "errorCode": error.code, "errorDescription": error.description})
    else:
        body = _success_json(error, behaviour, kind)
    return Response(body.encode(), fault=fault)
