"""The API's JSON: encode a window as a request body, parse bytes as a reply. No floats are ever created."""

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring_ascii as _quoted
from types import MappingProxyType
from urllib.parse import urlsplit

from etl import money
from etl.models import Dimension, ErrorScope, Window
from etl.responses import ApiError, Balance, InvalidResponse, RawRecord, RegularHours, SuccessPayload
from etl.secret import Secret

RAW_CHARS = 2_000
"""Characters stored of one record."""

MAX_RECORDS = 10_000
"""A day has at most 25 hours; a reply with more records than this is invalid."""

MAX_DEPTH = 32
"""A reply has three levels. Python's own limit depends on the caller, so the same body could parse differently."""

WITHOUT_CODE = "ERROR_WITHOUT_CODE"

ACCOUNT_ERRORS: Mapping[str, str] = MappingProxyType(
    {
        "ERROR_KEY_DOES_NOT_EXIST": "copy the client key again from the account's settings page; this one is unknown",
        "ERROR_IP_NOT_ALLOWED": "add this machine's IP to the account's list of allowed addresses",
        "ERROR_NO_SUCH_METHOD": "check ANTICAPTCHA_API_URL, or unset it: the URL is not the API's",
        "ERROR_IP_BLOCKED": "this machine's IP is blocked: stop all programs that use the key here, and ask the vendor",
        "ERROR_ACCOUNT_SUSPENDED": "ask the vendor why the account is suspended; nothing can be read until then",
        "ERROR_ZERO_BALANCE": "add funds to the account; the API returns nothing while the balance is zero",
    }
)
"""Error codes that stop an account, with a hint for each. All others are in _SCOPES or stop only their window."""


# ---------------------------------------------------------------- window → body

_MEMBER = {Dimension.QUEUE: ("queue", str), Dimension.APP: ("softId", int), Dimension.IP: ("ip", str)}


def encode_request(window: Window, key: Secret) -> bytes:
    """Return the JSON to send. ``date`` is the Unix second of ``window.start``.

    Raises ValueError for an unattributed series, a start that is not a whole UTC hour, a softId that is not a number.
    """
    if window.start.timestamp() % 3600:
        raise ValueError(f"not a whole UTC hour: {window.start}")
    return encode_probe(window, key)


def encode_probe(window: Window, key: Secret) -> bytes:
    """Return the JSON of a request of ``doctor --probe``, whose ``date`` may be any whole second.

    Raises ValueError for an unattributed series and for a softId that is not a number.
    """
    fields: dict[str, str | int] = {"clientKey": key.get_secret_value(), "date": int(window.start.timestamp())}
    dimension, member = window.series
    if dimension is not Dimension.TOTAL:
        if member is None:
            raise ValueError(f"an unattributed amount cannot be requested: {window}")
        name, convert = _MEMBER[dimension]
        fields[name] = convert(member)
    return json.dumps(fields).encode()


def encode_balance_request(key: Secret) -> bytes:
    return json.dumps({"clientKey": key.get_secret_value()}).encode()


# ---------------------------------------------------------------- bytes → reply


def parse_response(status: int, content: bytes, location: str = "") -> SuccessPayload | ApiError | InvalidResponse:
    """Parse what the API said, with numbers exactly as written. Never raises.

    ``location`` is the header of that name, for the message about a redirect.
    """
    if 300 <= status < 400:
        return InvalidResponse("redirect", f"HTTP {status} points to {_host(location)}; redirects are not followed")
    if status == 200 and (regular := _regular_hours(content)):
        return SuccessPayload(regular=regular)
    parsed = _parse(content)
    if isinstance(parsed, dict) and "errorId" in parsed:
        return _reply(parsed)
    if status != 200:
        return InvalidResponse(f"http_{status}", f"HTTP {status} with {_excerpt(content)}")
    if isinstance(parsed, InvalidResponse):
        return parsed
    what = "an object without errorId" if isinstance(parsed, dict) else "JSON that is not an object"
    return InvalidResponse("no_error_id", f"{what}: {_excerpt(content)}")


def parse_balance(status: int, content: bytes) -> Balance | ApiError | InvalidResponse:
    """Parse what getBalance returned; ``captchaCredits`` may be missing or unusable. Never raises."""
    parsed = _parse(content)
    if isinstance(parsed, InvalidResponse):
        return parsed
    if not isinstance(parsed, dict) or "errorId" not in parsed:
        return InvalidResponse(f"http_{status}", f"HTTP {status} with {_excerpt(content)}")
    if not _is_success(parsed["errorId"]):
        reply = _reply(parsed)
        return reply if isinstance(reply, ApiError) else InvalidResponse("no_error_id", _excerpt(content))
    balance, captcha_credits = money.parse_money(parsed.get("balance")), money.parse_int(parsed.get("captchaCredits"))
    if balance is None:
        return InvalidResponse("no_balance", f"no usable balance: {_excerpt(content)}")
    is_stored = captcha_credits is not None and abs(captcha_credits) < _BIGINT
    return Balance(balance, captcha_credits if is_stored else None)


def raw_records(content: bytes) -> tuple[RawRecord, ...]:
    """Return the records of a success as they are written, also those of a regular shape."""
    parsed = _parse(content)
    reply = _reply(parsed) if isinstance(parsed, dict) and "errorId" in parsed else None
    return reply.records if isinstance(reply, SuccessPayload) else ()


def data_shape(content: bytes) -> str:
    """Return how a success writes ``data``: list, object, null or missing. Empty if it is no success."""
    parsed = _parse(content)
    if not isinstance(parsed, dict) or not isinstance(_reply(parsed), SuccessPayload):
        return ""
    if "data" not in parsed:
        return "missing"
    return {list: "list", dict: "object", type(None): "null"}[type(parsed["data"])]  # a success has no other type


def clean(text: str, most: int) -> str:
    """Return one line of at most ``most`` printable characters, safe for logs, terminals and databases."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())[:most]


class _NotExactError(ValueError):
    """JSON that Python accepts, but that has no single exact value."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _parse(content: bytes) -> object:
    # Invalid UTF-8 can only be inside a JSON string, where U+FFFD cannot become a number. Error codes stay readable.
    text = content.decode("utf-8-sig", errors="replace")
    if not text.strip():
        return InvalidResponse("empty_body", "an empty body")
    if text.lstrip().startswith("<"):
        return InvalidResponse("html", f"a web page instead of JSON: {_excerpt(content)}")
    try:
        parsed: object = json.loads(
            text, parse_int=_whole, parse_float=_decimal, parse_constant=_constant, object_pairs_hook=_object
        )
        _refuse_depth(parsed)
    except _NotExactError as error:
        return InvalidResponse(error.code, f"{error}: {_excerpt(content)}")
    except ValueError as error:
        return InvalidResponse("not_json", f"not JSON ({clean(str(error), 80)}): {_excerpt(content)}")
    except RecursionError:
        return InvalidResponse("too_deep", f"JSON nested more than {MAX_DEPTH} deep: {_excerpt(content)}")
    return parsed


def _refuse_depth(parsed: object) -> None:
    """Raise RecursionError, as the parser does at a much greater depth."""
    level = [parsed]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inside(outer)]
    if any(isinstance(inner, dict | list) for inner in level):
        raise RecursionError


def _inside(outer: dict[str, object] | list[object]) -> Iterable[object]:
    return outer.values() if isinstance(outer, dict) else outer


def _whole(text: str) -> int | Decimal:
    # int() refuses more than 4,300 digits; as a Decimal, such a number becomes the rejection of one record.
    return int(text) if len(text) < 100 else _decimal(text)


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise _NotExactError("number_out_of_range", f"a number out of range, {clean(text, 40)}") from None


def _constant(text: str) -> object:
    raise _NotExactError("not_a_number", f"{text} is not a number")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _NotExactError("duplicate_key", "an object has the same field twice")
    return fields


# ---------------------------------------------------------------- the regular shape

_MAX_HOURS = 25
_HOUR_SECONDS = 3600
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z
_BIGINT = 2**63
_FIELDS = ("dateFrom", "dateTill", "volume", "money")
# As a tuple of pairs, an object differs from a list and keeps a field that it has twice.
_REGULAR = json.JSONDecoder(parse_float=Decimal, object_pairs_hook=tuple)


def _regular_hours(content: bytes) -> RegularHours | None:
    """Return the records of the shape that nearly all replies have; None if only the full parser can tell.

    It is several times faster than the full parser, and its hours, volumes and amounts are the same.
    """
    try:
        reply = _REGULAR.decode(content.decode())
        (first, error_id), (second, records) = reply
        names, values = zip(*(field for record in records for field in record), strict=True)
        shapes = {(type(record), len(record)) for record in records}
    except (ValueError, TypeError, InvalidOperation, RecursionError):
        return None
    is_success = (type(reply), first, second) == (tuple, "errorId", "data") and _is_success(error_id)
    if not is_success or shapes != {(tuple, 4)} or names != _FIELDS * len(records):
        return None
    starts, ends, volumes, amounts = (values[at::4] for at in range(4))
    if {*map(type, starts + ends + volumes)} != {int} or not {*map(type, amounts)} <= {int, Decimal}:
        return None
    first_second, count, nanodollars = starts[0], len(records), money.round_to_nanodollars(amounts)
    is_usable = (
        count <= _MAX_HOURS
        and first_second >= 0
        and starts == tuple(range(first_second, first_second + count * _HOUR_SECONDS, _HOUR_SECONDS))
        and starts[-1] <= _LAST_SECOND
        and all(start <= end < start + _HOUR_SECONDS for start, end in zip(starts, ends, strict=True))
        and 0 <= min(volumes) <= max(volumes) < _BIGINT
    )
    return RegularHours(first_second, volumes, nanodollars) if is_usable and nanodollars is not None else None


# ---------------------------------------------------------------- any other shape


def _reply(fields: dict[str, object]) -> SuccessPayload | ApiError | InvalidResponse:
    error_id = fields["errorId"]
    if _is_success(error_id):
        return _rows(fields.get("data"))
    code = clean(_text(fields.get("errorCode")), 64) or WITHOUT_CODE
    description = clean(_text(fields.get("errorDescription")), 300) or f"errorId {clean(_compact(error_id), 40)}"
    return ApiError(code, description, _scope(code))


def _is_success(error_id: object) -> bool:
    return (type(error_id) is int and error_id == 0) or error_id == "0"


_SCOPES = {"ERROR_ACCESS_DENIED": ErrorScope.SERIES, "ERROR_NO_SLOT_AVAILABLE": ErrorScope.TRANSIENT}


def _scope(code: str) -> ErrorScope:
    if code in ACCOUNT_ERRORS:
        return ErrorScope.ACCOUNT
    return _SCOPES.get(code, ErrorScope.WINDOW)


def _rows(elements: object) -> SuccessPayload | InvalidResponse:
    if elements is None:
        return SuccessPayload(lacks_data=True)
    if isinstance(elements, dict):  # PHP sends a list with gaps in its keys as {"0": {...}, "2": {...}}
        elements = list(elements.values())
    if not isinstance(elements, list):
        return InvalidResponse("data_not_a_list", f"errorId 0, but data is not a list: {clean(_compact(elements), 80)}")
    if len(elements) > MAX_RECORDS:
        return InvalidResponse("too_many_records", f"{len(elements)} records instead of 24")
    return SuccessPayload(tuple(_raw_record(element) for element in elements))


def _raw_record(element: object) -> RawRecord:
    fields = element if isinstance(element, dict) else {}
    raw = _compact(element)[:RAW_CHARS]
    return RawRecord(fields.get("dateFrom"), fields.get("dateTill"), fields.get("volume"), fields.get("money"), raw)


def _compact(value: object) -> str:
    """Return JSON without spaces. ``json.dumps`` cannot write a Decimal exactly."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quoted(name)}:{_compact(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_compact, value)) + "]"
    if isinstance(value, str):
        return _quoted(value)
    return str(value) if type(value) in (int, Decimal) else json.dumps(value)


def _text(value: object) -> str:
    """Return a string or a number as text, anything else as an empty string."""
    return str(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else ""


def _excerpt(content: bytes) -> str:
    """Return the size of a body and its first 80 characters."""
    shown = clean(content[:1_000].decode("utf-8-sig", errors="replace"), 80)
    return f"{len(content)} bytes, {shown!r}" if shown else f"{len(content)} bytes"


def _host(location: str) -> str:
    try:
        host = urlsplit(location).hostname
    except ValueError:
        host = None
    return clean(host or "", 80) or "no host"
