"""Types of a response: as received, and as parsed by ``extract/protocol.py``. Bad data is a value here."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from etl.models import MAX_CLOCK_SKEW, ErrorScope, Window


class RawRecord(NamedTuple):
    """One element of ``data``: its four fields as parsed from JSON (None if absent) and its own text."""

    date_from: object
    date_till: object
    volume: object
    money: object
    raw: str


class RegularHours(NamedTuple):
    """The records of a reply in the regular shape: consecutive hours, all of them usable.

    ``first_second`` is the Unix second at which the first hour begins. ``nanodollars`` are rounded to whole numbers.
    """

    first_second: int
    volumes: tuple[int, ...]
    nanodollars: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SuccessPayload:
    """A successful reply: ``errorId`` was 0. It has either ``regular`` hours or ``records`` of any other shape.

    ``lacks_data``: the reply has no ``data``, or null instead.
    """

    records: tuple[RawRecord, ...] = ()
    regular: RegularHours | None = None
    lacks_data: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """What getBalance returned: US dollars, and credits if the account has them (API document)."""

    money: Decimal
    captcha_credits: int | None


@dataclass(frozen=True, slots=True)
class ApiError:
    """An error reply: ``errorId`` was not 0. Decide by ``scope`` or ``code``, never by ``description``."""

    code: str
    description: str
    scope: ErrorScope


@dataclass(frozen=True, slots=True)
class InvalidResponse:
    """Bytes that are no reply of the API: HTML, a truncated body, no ``errorId``, NaN, HTTP 500."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class TransportError:
    """No bytes at all: refused, reset, timed out, DNS, TLS."""

    code: str
    reason: str


ParsedResponse = SuccessPayload | ApiError | InvalidResponse | TransportError


@dataclass(frozen=True, slots=True)
class Response:
    """The last reply to one window, as received.

    ``requested_at`` is when the last request was sent, ``requests`` how many were sent (1 = no retry), ``server_time``
    the reply's ``Date`` header, ``seconds`` the time from the first request to this reply. ``compressed_body`` is the
    body as it is stored, or empty if it has not been compressed yet.
    """

    window: Window
    requested_at: datetime
    reply: ParsedResponse
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    requests: int = 1
    server_time: datetime | None = None
    seconds: float = field(default=0, compare=False)
    compressed_body: bytes = field(default=b"", repr=False, compare=False)

    @property
    def clock_skew(self) -> timedelta:
        """How much the server's clock is ahead of ours, if that is too much; otherwise zero."""
        skew = timedelta(0) if self.server_time is None else self.server_time - self.requested_at
        return skew if abs(skew) > MAX_CLOCK_SKEW else timedelta(0)

    @property
    def with_true_time(self) -> "Response":
        """If the clocks differ too much, with the earlier time: with a later one the snapshot could win wrongly."""
        skew = min(self.clock_skew, timedelta(0))
        return replace(self, requested_at=self.requested_at + skew) if skew else self
