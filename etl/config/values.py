"""Check single values. Each function takes a raw value and returns the checked one.

Options and variables give text; TOML also gives numbers, dates, lists and tables. A ValueError says what the value
must be.
"""

import math
import re
from collections.abc import Callable, Hashable
from datetime import date, time
from typing import NamedTuple, TypeVar

from etl.secret import Secret

MAX_SOFT_ID = 2**31 - 1
BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class Shard(NamedTuple):
    """One of ``of`` parts of all accounts, counted from 0. Each account is in exactly one part."""

    part: int
    of: int

    def has(self, account: str) -> bool:
        return part_of(account, self.of) == self.part


def part_of(account: str, parts: int) -> int:
    """The part of an account among ``parts``, counted from 0; it depends only on the account's name."""
    import hashlib

    return int.from_bytes(hashlib.sha256(account.encode()).digest()) % parts


def format_value(value: object) -> str:
    """Return a value in TOML notation, text in single quotes."""
    match value:
        case bool():
            return str(value).lower()
        case date() | time():
            return value.isoformat()
        case list() | tuple():
            return f"[{', '.join(map(format_value, value))}]"
        case dict():
            return f"{{{', '.join(f'{key} = {format_value(item)}' for key, item in value.items())}}}"
        case _:
            return repr(value)


def _as_text(value: object) -> str:
    """Return TOML numbers, booleans and dates as the text that an option would give."""
    return value.strip() if isinstance(value, str) else format_value(value)


def text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it must be a text that is not empty")
    return value.strip()


def name(value: object) -> str:
    found = text(value)
    if not found.isprintable() or "/" in found:
        raise ValueError("a name must not contain a slash or control characters")
    return found


_Value = TypeVar("_Value", bound=Hashable)


def several(read: Callable[[object], _Value]) -> Callable[[object], tuple[_Value, ...]]:
    """Return a reader for several values without duplicates: a list, or one text with commas or line breaks."""

    def read_all(value: object) -> tuple[_Value, ...]:
        if isinstance(value, str):
            items: list[object] = [*re.split(r"[,\n]", value)]
        else:
            items = [*value] if isinstance(value, list | tuple) else [value]
        stripped = (item.strip() if isinstance(item, str) else item for item in items)
        return tuple(dict.fromkeys(read(item) for item in stripped if item != ""))

    return read_all


def soft_id(value: object) -> str:
    """Return the digits of a softId."""
    digits = _as_text(value)
    number = int(digits) if re.fullmatch(r"\+?[0-9]{1,12}", digits) else 0
    if not 1 <= number <= MAX_SOFT_ID:
        raise ValueError(f"{format_value(value)} is not a softId (a whole number from 1 to {MAX_SOFT_ID})")
    return str(number)


def ip(value: object) -> str:
    """Return an address in canonical form; IPv4 addresses in IPv6 notation (``::ffff:192.0.2.1``) as IPv4."""
    from ipaddress import ip_address

    address = _as_text(value)
    if "/" in address:
        raise ValueError(f"{address!r} is a network; list single addresses")
    if "%" in address:
        raise ValueError(f"{address!r} has a zone, which is valid on one machine only; leave it out")
    try:
        found = ip_address(address)
    except ValueError:
        raise ValueError(f"{format_value(value)} is not an IP address like '192.0.2.10' or '2001:db8::1'") from None
    return str((found.ipv4_mapped if found.version == 6 else None) or found)


def boolean(value: object) -> bool:
    word = _as_text(value).lower()
    if word not in BOOLEANS:
        raise ValueError("it must be true or false")
    return BOOLEANS[word]


def whole_number(low: int, high: int | None, unit: str) -> Callable[[object], int]:
    limits = f"from {low} to {high}" if high is not None else f"of at least {low}"

    def read(value: object) -> int:
        digits = _as_text(value)
        number = int(digits) if re.fullmatch(r"[+-]?[0-9]{1,12}", digits) else None
        if number is None or number < low or (high is not None and number > high):
            raise ValueError(f"it must be a whole number of {unit} {limits}")
        return number

    return read


def number_of(unit: str) -> Callable[[object], float]:
    def read(value: object) -> float:
        try:
            number = float(_as_text(value))
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number < 0:
            raise ValueError(f"it must be a number of {unit}, 0 or more")
        return number

    return read


def day(value: object) -> date:
    found = _as_text(value)
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", found, re.ASCII):
        raise ValueError("it must be a UTC day written as YYYY-MM-DD")
    try:
        return date.fromisoformat(found)
    except ValueError as error:
        raise ValueError(f"there is no such day ({error})") from error


def day_or_all(value: object) -> date | None:
    """Return None for ``all``."""
    if value == "all":
        return None
    try:
        return day(value)
    except ValueError as error:
        raise ValueError(f"{error}, or all") from error


def api_url(value: object) -> str:
    return _secure_url(value, "the key").rstrip("/")


def ping_url(value: object) -> Secret:
    """Return the URL as a secret: anyone who knows it can report success."""
    return Secret(_secure_url(value, "the URL, which is a secret,"))


def notify_url(value: object) -> Secret:
    """Return the URL as a secret: it contains passwords and tokens."""
    url = text(value)
    if "://" not in url:
        raise ValueError("it must be a URL of apprise, such as mailto://user:password@example.com")
    return Secret(url)


def _secure_url(value: object, secret: str) -> str:
    from urllib.parse import urlsplit

    url = text(value)
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise ValueError("it is not a valid URL") from None  # the original error contains the URL
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("it must be a URL that begins with https://")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"{secret} would be sent unencrypted; use https:// (http:// is allowed for this machine only)")
    return url


def timezone(value: object) -> str:
    from zoneinfo import ZoneInfo

    zone = text(value)
    try:
        return ZoneInfo(zone).key
    except (OSError, ValueError, LookupError):
        raise ValueError("it must be a name from the IANA time zone database, such as Europe/Istanbul") from None


def is_loopback(host: str) -> bool:
    return host == "localhost" or bool(re.fullmatch(r"127(\.\d+){3}|::1", host))


def log_format(value: object) -> str:
    if value not in ("text", "json"):
        raise ValueError("it must be text or json")
    return str(value)


def shard(value: object) -> Shard:
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", _as_text(value), re.ASCII)
    result = Shard(*map(int, found.groups())) if found else Shard(0, 0)
    if result.part >= result.of:
        raise ValueError("it must be I/N with I from 0 to N-1; for example 0/2 and 1/2 are the two halves")
    return result
