"""How the stand-in API behaves, and which requests get a fault."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import blake2b
from typing import Literal, NamedTuple

METHOD = "/getSpendingStats"
BALANCE_METHOD = "/getBalance"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the API behaves where its documentation is silent. The defaults are the most likely behaviour.

    ``idle``: hours without spend are sent as zeros or omitted. ``buckets``: number of records in a response.
    ``numbers``: JSON numbers, strings, or numbers with float noise and exponents.
    ``listed``: ``[...]`` or ``{"0":...}``.
    ``unknown_queue``: the response is ERROR_INCORRECT_QUEUE (a made-up code), zeros, or the totals of all queues.
    ``off_hour``: a `date` inside an hour is moved back to its start, or shifts every bucket.
    ``grid_seconds``: where buckets begin, relative to the whole hour; -900 is :45, as in the vendor's example.
    ``running``, ``unbegun``: include the current hour; include hours that have not begun, as zeros.
    ``foreign_app``, ``foreign_ip``: a softId or IP that is not the account's gives ERROR_ACCESS_DENIED, zeros, or is
    ignored ("totals"). ``retention_days``: an older `date` gives an empty response.
    ``duplicates``: one record is sent twice, identical or the first time with smaller numbers.
    ``deposits``: US dollars paid in at a time; the balance is what is left of them. ``balance_form``: how it is sent.
    ``refused_keys`` do not exist; if ``accepted_keys`` is given, no other key exists.
    """

    idle: Literal["zero", "omit"] = "zero"
    buckets: Literal[23, 24, 25] = 24
    numbers: Literal["number", "string", "noise"] = "number"
    listed: Literal["array", "object"] = "array"
    unknown_queue: Literal["error", "zeros", "totals"] = "error"
    off_hour: Literal["snap", "shift"] = "snap"
    grid_seconds: int = 0
    running: bool = True
    unbegun: bool = False
    foreign_app: Literal["error", "zeros", "totals"] = "error"
    foreign_ip: Literal["zeros", "totals", "error"] = "zeros"
    retention_days: int | None = None
    duplicates: Literal["none", "identical", "differing"] = "none"
    deposits: tuple[tuple[datetime, Decimal], ...] = ()
    balance_form: Literal["number", "string", "noise", "missing", "error"] = "number"
    latency_seconds: float = 0
    date_skew_seconds: int = 0
    accepted_keys: frozenset[str] | None = field(default=None, repr=False)
    refused_keys: frozenset[str] = field(default=frozenset(), repr=False)

    def accepts(self, key: object) -> bool:
        if not isinstance(key, str) or not key or key in self.refused_keys:
            return False
        return self.accepted_keys is None or key in self.accepted_keys


class FaultKind(StrEnum):
    """What can go wrong in the API, in front of it, or in transit."""

    # API errors
    REFUSE_KEY = "refuse_key"
    IP_BLOCKED = "ip_blocked"
    SUSPENDED = "suspended"
    IP_NOT_ALLOWED = "ip_not_allowed"
    ZERO_BALANCE = "zero_balance"
    ACCESS_DENIED = "access_denied"
    UNKNOWN_CODE = "unknown_code"
    NO_SLOT = "no_slot"
    # a proxy answers instead of the API
    HTML = "html"
    HTML_500 = "html_500"
    HTML_502 = "html_502"
    HTML_503 = "html_503"
    RETRY_AFTER = "retry_after"
    REDIRECT = "redirect"
    EMPTY = "empty"
    # transport
    TRUNCATED = "cut"
    HALF_SENT = "half_sent"
    RESET = "reset"
    HANG = "hang"
    SLOW_DRIP = "slow_drip"
    ENDLESS = "endless"
    # a damaged success; error responses pass unchanged
    NAN = "nan"
    NEGATIVE = "negative"
    NEGATIVE_VOLUME = "negative_volume"
    VENDOR_PAGE = "vendor_page"
    VENDOR_EXAMPLE = "vendor_example"
    ERROR_ID_STRING = "error_id_string"
    NULL_DATA = "null_data"
    NO_DATA = "no_data"


class ApiQuery(NamedTuple):
    """The parameters of a request, without the key. ``date`` is Unix seconds as sent."""

    date: int | None = None
    queue: str | None = None
    soft_id: int | None = None
    ip: str | None = None


def parse_query(body: bytes) -> tuple[object, ApiQuery | None]:
    """Return the key and the parameters; None if the body is not a valid request of this method."""
    try:
        fields = json.loads(body)
    except ValueError:
        return None, None
    if not isinstance(fields, dict):
        return None, None
    types = {"date": int, "queue": str, "softId": int, "ip": str}
    key = fields.pop("clientKey", None)
    if any(type(value) is not types.get(name) for name, value in fields.items()):
        return key, None
    return key, ApiQuery(*map(fields.get, types))


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and the requests that get it: those that meet every given condition, or all if none is given.

    ``rate``: share of requests, 0 to 1, drawn per request and attempt, so the same at any concurrency.
    ``numbers``: requests since the sandbox started, from 1. ``attempts``: repetitions of the same query since the
    faults were set, from 1; ``(1,)`` spares every retry. ``days``: UTC days of `date`. ``queues``, ``soft_ids``,
    ``ips``: as sent; None matches a request without one. ``seconds``: duration of `hang` or `slow_drip`.
    ``retry_after``: value of that header. ``of_balance``: for getBalance instead, whatever the other conditions.
    """

    kind: FaultKind
    rate: float = 1
    numbers: tuple[int, ...] = ()
    attempts: tuple[int, ...] = ()
    days: tuple[date, ...] = ()
    queues: tuple[str | None, ...] = ()
    soft_ids: tuple[int | None, ...] = ()
    ips: tuple[str | None, ...] = ()
    seconds: float = 1
    retry_after: str = "1"
    of_balance: bool = False

    def matches(self, query: ApiQuery, number: int, attempt: int, seed: int) -> bool:
        if self.of_balance:
            return False
        conditions: tuple[tuple[tuple[object, ...], object], ...] = (
            (self.numbers, number),
            (self.attempts, attempt),
            (self.days, _utc_day(query.date)),
            (self.queues, query.queue),
            (self.soft_ids, query.soft_id),
            (self.ips, query.ip),
        )
        if any(allowed and value not in allowed for allowed, value in conditions):
            return False
        return self.rate >= 1 or _random_fraction(seed, self.kind, *query, attempt) < self.rate


def _utc_day(second: int | None) -> date | None:
    with suppress(OverflowError, OSError, ValueError):  # a timestamp beyond the calendar matches no day
        return None if second is None else datetime.fromtimestamp(second, UTC).date()
    return None


def _random_fraction(*parts: object) -> float:
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=4).digest()) / 2**32


@dataclass(frozen=True, slots=True)
class Request:
    """A line of the sandbox's request log. ``status`` is None if no HTTP response was sent."""

    at: datetime
    key_ok: bool
    date: int | None
    queue: str | None
    soft_id: int | None
    ip: str | None
    fault: FaultKind | None
    status: int | None
    path: str = METHOD
