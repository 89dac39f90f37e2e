"""Generated responses that the API, or a proxy in front of it, may send: from valid ones to noise. One seed, one response.

The mutations start from valid responses: they change the notation of fields, duplicate and move records, and wrap,
truncate and damage bodies. Used by the ordinary tests and by ``make fuzz``.
"""

import gzip
import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from etl.models import HOUR, TOTAL, Window

DAY = date(2026, 1, 1)
START = datetime(2026, 1, 1, tzinfo=UTC)
_MIDNIGHT = int(START.timestamp())
_WHOLE = Window.whole_day("default", TOTAL, DAY)
_TAIL = Window("default", TOTAL, DAY, START + 20 * HOUR, _WHOLE.end)
_LATER, _RUNNING, _ON_THE_HOUR = START + timedelta(days=3), START + timedelta(hours=13, minutes=20), START + 13 * HOUR


class Context(NamedTuple):
    """The requested window, the time of the request, and the account's hour offset if it is known."""

    window: Window
    requested_at: datetime
    hour_offset: int | None


CONTEXTS = (
    *(Context(_WHOLE, _LATER, hour_offset) for hour_offset in (None, 0, -900, 2700)),
    *(Context(_WHOLE, requested_at, 0) for requested_at in (_RUNNING, _ON_THE_HOUR)),
    *(Context(_TAIL, _LATER, hour_offset) for hour_offset in (None, 0, -900)),
)


class HttpResponse(NamedTuple):
    """A generated HTTP response, with the request it belongs to."""

    body: bytes
    status: int = 200
    location: str = ""
    date: str = ""
    retry_after: str = ""
    context: Context = CONTEXTS[1]


Fields = list[tuple[str, str]]
"""The fields of one record in order: names and JSON texts."""

# ---------------------------------------------------------------- numbers

_ZEROS = (0x660, 0x966, 0xFF10, 0x2080, 0x1D7CE)
"""Digits of other scripts, which are invalid in JSON."""

_ODD = tuple(
    text
    for line in r"""
    NaN | Infinity | -Infinity | null | true | false | "" | " " | "  7 " | [] | {} | [5] | {"0":5} | [[[]]] | "0" | "NaN"
    "inf" | "-Infinity" | "nan" | "sNaN" | "0x1F" | "1_000" | "1,5" | "1 000" | "$1.5" | "1.5 USD" | "--1" | "+5" | ".5" | "5."
    "." | "1e" | "e5" | "1e5" | "\u0035" | "5\u0000" | "\ud800" | "5\n" | "\t5" | "\u00a05" | -1 | -0 | 0.0 | -0.0 | 0e5 | 0e0
    0e999999999 | -0e-999999999 | 5.0 | 5.0e0 | 50e-1 | 5.5 | 1e0 | 1E+3 | 1.0e-5 | 1e18 | 1e19 | 1e-7 | 1e-400 | 1e400
    1e999999999 | 1e-999999999 | 1e99999999999999999999 | 1e-99999999999999999999 | "1e99999999999999999999"
    "0e99999999999999999999" | 9223372036854775807 | 9223372036854775808 | 9223372036854775807.5 | -9223372036854775808
    -9223372036854775809 | 9007199254740993 | 9007199254740993.0 | 18446744073709551616 | 4294967296 | 999999999.999999999
    999999999.9999999994 | 999999999.9999999995 | -999999999.9999999995 | 1000000000 | -1000000000 | 0.0000000005 | 0.0000000015
    0.0000000025 | 0.00000000050000000000000000000000000000000001 | -0.0000000005 | -1.5 | 7.4959480000000003 | 0.1234567885
    0.1234567895 | 0.12345678950000000000000000000000000000000000000000001 | 00 | 01 | +5 | 0x10 | 1. | .5 | - 1 | 1 2 | '5'
    undefined | 5u | 1_0 | "٣" | ٣ | "Ⅷ" | 253402300799 | 253402300800 | 2147483648
    """.strip().splitlines()
    for text in line.strip().split(" | ")
)


def _amount(random_source: random.Random) -> str:
    places = random_source.choice((0, 2, 6, 6, 6, 9, 9, 10, 17))
    text = str(random_source.choice((0, 1, random_source.randrange(100), random_source.randrange(10**9))))
    sign = "-" if random_source.random() < 0.05 else ""
    return sign + text + (f".{random_source.randrange(10**places):0{places}}" if places else "")


def _digits(random_source: random.Random) -> str:
    """Return a number with many digits."""
    many = random_source.choice("0123456789") * random_source.choice((18, 19, 40, 99, 100, 101, 400, 4300, 4301, 9000))
    whole = many.lstrip("0") or "0"
    return random_source.choice(
        (whole, f"0.{many}", f"1.{many}", f"5.{'0' * len(many)}", f"1{many}e-{len(many)}", f"7.{many}e3")
    )


def _other_notation(number: str, random_source: random.Random) -> str:
    """Return the same number in another notation: as text, with an exponent, with a point, with spaces."""
    way = random_source.randrange(8)
    if way == 0:
        return f'"{number}"'
    if way == 1:
        return f'" {number} "'
    if way == 2:
        return number if "." in number else f"{number}.0"
    if way == 3:
        return f"{number}{random_source.choice('eE')}{random_source.choice(('', '+', '-'))}0"
    if way == 4 and "." not in number and number.endswith("0"):
        return f"{number[:-1] or '0'}{random_source.choice('eE')}{random_source.choice(('', '+'))}1"
    if way == 5 and number.strip("-0"):
        return f"{number}00000" if "." in number else f"{number}0e-1"
    if way == 6:
        return '"' + "".join(f"\\u{ord(c):04x}" if random_source.random() < 0.3 else c for c in number) + '"'
    return number


# ---------------------------------------------------------------- records


def _day(random_source: random.Random, hour_offset: int | None) -> list[Fields]:
    shift = (hour_offset or 0) if random_source.random() < 0.9 else random_source.choice((0, -900, 2700, 1))
    some = (
        range(24),
        range(random_source.randrange(24), 24),
        random_source.sample(range(24), 3),
        [random_source.randrange(-2, 27)],
        [19, 20, 21],
    )
    hours: Sequence[int] = random_source.choice(some)
    if random_source.random() < 0.6:
        hours = hours[: random_source.randrange(1, 5)]
    return [_record(_MIDNIGHT + shift + 3600 * hour, random_source) for hour in hours]


def _record(start_second: int, random_source: random.Random) -> Fields:
    volume = str(random_source.choice((0, 1, random_source.randrange(10_000), random_source.randrange(2**63))))
    return [
        ("dateFrom", str(start_second)),
        ("dateTill", str(start_second + 3599)),
        ("volume", volume),
        ("money", _amount(random_source)),
    ]


def _change_notation(fields: Fields, random_source: random.Random) -> None:
    fields[:] = [
        (name, _other_notation(text, random_source) if random_source.random() < 0.4 else text) for name, text in fields
    ]
    if random_source.random() < 0.2:
        random_source.shuffle(fields)


def _odd_field(fields: Fields, random_source: random.Random) -> None:
    at = random_source.randrange(len(fields))
    name, text = fields[at]
    way = random_source.randrange(8)
    if way == 0:
        text = _digits(random_source)
    elif way == 1:
        text = f'"{_digits(random_source)}"'
    elif way == 2:
        zero = random_source.choice(_ZEROS)
        text = '"' + text.strip('"').translate({48 + digit: zero + digit for digit in range(10)}) + '"'
    elif way == 3:
        text = "-" + text
    else:
        text = random_source.choice(_ODD)
    fields[at] = (name, text)


def _odd_name(fields: Fields, random_source: random.Random) -> None:
    at = random_source.randrange(len(fields))
    name, text = fields[at]
    way = random_source.randrange(7)
    if way == 0:
        del fields[at]
    elif way == 1:
        fields.append((name, random_source.choice((text, "0"))))
    elif way == 2:
        fields[at] = (
            random_source.choice((name.lower(), f" {name}", f"{name}\\u0000", f"\\ufeff{name}", "\\ud800", "")),
            text,
        )
    elif way == 3 and name:
        fields[at] = (f"\\u{ord(name[0]):04x}{name[1:]}", text)
    elif way == 4:
        other = random_source.randrange(len(fields))
        fields[at], fields[other] = (name, fields[other][1]), (fields[other][0], text)
    else:
        fields.append((random_source.choice(("queue", "hour", "currency", "softId", "0")), random_source.choice(_ODD)))


def _change_time(fields: Fields, random_source: random.Random) -> None:
    """Change the time: milliseconds, another length, overlapping, another day, another hour offset."""
    by = random_source.choice((1, -1, 900, 1800, 3600, -3600, 86_400, -86_400, 365 * 86_400, 10**9))
    way = random_source.randrange(5)
    for at, (name, text) in enumerate(fields):
        if not text.isdigit() or not name.startswith("date") or len(text) > 12:
            continue
        if way == 0:
            fields[at] = (name, f"{text}000")
        elif way == 1 and name == "dateTill":
            fields[at] = (name, str(int(text) + random_source.choice((1, -1, -3599, -3600, 1800, -1800, 86_400))))
        elif way == 2:
            fields[at] = (name, str(int(text) + by))
        elif way == 3 and name == "dateFrom":
            fields[at] = (name, str(int(text) + random_source.choice((1, -1, 1800, 3600))))
        elif way == 4:
            fields[at] = (name, f"{text}.{random_source.choice(('0', '5', '999999999'))}")


_BY_RECORD: Sequence[Callable[[Fields, random.Random], None]] = (
    _change_notation,
    _odd_field,
    _odd_field,
    _odd_name,
    _change_time,
    _change_time,
)

# ---------------------------------------------------------------- lists


def _text(fields: Fields, random_source: random.Random) -> str:
    comma, colon = random_source.choice(((",", ":"), (",", ":"), (", ", ": "), (" ,\n\t", " : ")))
    return "{" + comma.join(f'"{name}"{colon}{text}' for name, text in fields) + "}"


def _listed(texts: list[str], random_source: random.Random, wild: bool) -> str:
    if wild:
        texts = _odd_list(texts, random_source)
    way = random_source.randrange(12)
    if way == 0:
        return "{" + ",".join(f'"{number}":{text}' for number, text in enumerate(texts)) + "}"
    if way == 1:
        keys = random_source.sample(range(100), len(texts)) if len(texts) <= 100 else range(len(texts))
        return "{" + ",".join(f'"{key}":{text}' for key, text in zip(keys, texts, strict=True)) + "}"
    if wild and way == 2:
        keys_again = (random_source.choice(("0", "1", "\\u0030", "01", "dateFrom")) for _ in texts)
        return "{" + ",".join(f'"{key}":{text}' for key, text in zip(keys_again, texts, strict=True)) + "}"
    if wild and way == 3:
        return "[[" + ",".join(texts) + "]]"
    return "[" + ",".join(texts) + "]"


def _odd_list(texts: list[str], random_source: random.Random) -> list[str]:
    way = random_source.randrange(9)
    if way == 0:
        return texts + random_source.sample(texts, random_source.randint(0, len(texts)))
    if way == 1:
        return texts + [
            _text(_record(_MIDNIGHT + 3600 * random_source.randrange(3), random_source), random_source)
            for _ in range(random_source.randrange(12))
        ]
    if way == 2:
        return random_source.sample(texts, len(texts))
    if way == 3:
        return [*texts, random_source.choice(_ODD)]
    if way == 4:
        return [random_source.choice(_ODD) for _ in range(random_source.randrange(5))]
    if way == 5:
        deep = random_source.choice((3, 20, 27, 28, 29, 30, 31, 32, 33, 60, 300, 900, 990, 1100, 5000))
        return [*texts, "[" * deep + "]" * deep if random_source.random() < 0.5 else '{"a":' * deep + "1" + "}" * deep]
    if way == 6 and random_source.random() < 0.002:
        count = random_source.choice((9_999, 10_000, 10_001))
        return ((texts or ["0"]) * count)[:count]
    if way == 7:
        return [
            *texts,
            json.dumps(
                {
                    "dateFrom": _MIDNIGHT,
                    "note": random_source.choice('xé\ud800"') * random_source.choice((1, 500, 5000)),
                }
            ),
        ]
    return texts


# ---------------------------------------------------------------- envelopes

NAMES = (
    "ERROR_KEY_DOES_NOT_EXIST",
    "ERROR_ACCESS_DENIED",
    "ERROR_NO_SLOT_AVAILABLE",
    "ERROR_NEVER_SEEN",
    "",
    " ",
    "\\u0000",
    "\\ud800",
    "é",
)
_DATA = (
    "null",
    "{}",
    "[]",
    '""',
    "false",
    "true",
    "0",
    "5",
    '"none"',
    "1.50",
    '[{"money":1}]',
    "[null]",
    "[[]]",
    '{"error":"x"}',
    "NaN",
    "[[[[[",
)


def _envelope(records: str, random_source: random.Random, wild: bool) -> str:
    fields = [("errorId", random_source.choice(("0", "0", "0", '"0"'))), ("data", records)]
    for _ in range(random_source.randrange(1, 3) if wild else 0):
        _odd_envelope(fields, random_source)
    if random_source.random() < 0.1:
        fields.reverse()
    return "{" + ",".join(f'"{name}":{text}' for name, text in fields) + "}"


def _odd_envelope(fields: Fields, random_source: random.Random) -> None:
    way = random_source.randrange(8)
    if way == 0:
        fields[0] = ("errorId", random_source.choice((*_ODD, "1", "2", "21", '"1"', '"00"', "-0", "0.0", "12")))
    elif way == 1:
        fields[0] = ("errorId", "1")
        fields += [
            ("errorCode", f'"{random_source.choice(NAMES)}"'),
            ("errorDescription", f'"{random_source.choice(NAMES) * 50}"'),
        ]
    elif way == 2:
        fields.append(
            (random_source.choice(("errorCode", "errorDescription", "data2", "errorId ")), random_source.choice(_ODD))
        )
    elif way == 3:
        fields[-1] = ("data", random_source.choice(_DATA))
    elif way == 4:
        fields.append(random_source.choice((("errorId", "1"), ("errorId", "0"), ("data", "[]"), ("data", "null"))))
    elif way == 5:
        fields[0] = (fields[0][0], random_source.choice(_ODD))
    elif way == 6:
        fields[0] = (random_source.choice(("errorid", "error_id", "ErrorId", "errorId\\u0000")), "0")
    else:
        fields[0] = ("errorId", random_source.choice(("1", "[]", "null", "false")))
        fields.append(("errorCode", random_source.choice(_ODD)))


# ---------------------------------------------------------------- bodies

_PAGES = (
    b"<html><head><title>502 Bad Gateway</title></head></html>",
    b"\n<!DOCTYPE html><p>maintenance",
    b"<?xml version='1.0'?><error/>",
    b"upstream connect error or disconnect/reset before headers",
    b"<br />\n<b>Warning</b>: mysqli in <b>/var/www/api.php</b> on line <b>7</b><br />\n",
    b"\x1b[31mfatal\x1b[0m\x07",
    b"null",
    b"0",
    b'""',
    b"\x00" * 40,
    b"\r\n",
    b"\xff\xfe",
)
_SOIL = (
    b"\x00",
    b"\xff",
    b"\xe9",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\x1b",
    b"\n",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
)
_MORE_SOIL = (
    *_SOIL,
    b"-",
    b".",
    b"e",
    b"0",
    b"9",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\xd9\xa3",
    b"//",
    b"NaN",
    b"null",
    b"\\u0030",
    b"\\ud83d",
)


def _damage(body: bytes, random_source: random.Random) -> bytes:
    here = random_source.randint(0, len(body))
    there = min(len(body), here + random_source.choice((1, 1, 1, 2, 5, 20, 100)))
    piece = body[here:there]
    return random_source.choice(
        (
            lambda: body[:here],
            lambda: body[:here] + body[there:],
            lambda: body[:there] + piece + body[there:],
            lambda: body[:here] + random_source.choice(_MORE_SOIL) + body[here:],
            lambda: body[:here] + random_source.choice(_MORE_SOIL) + body[there:],
            lambda: body[:here] + random_source.randbytes(len(piece)) + body[there:],
            lambda: (
                body[:here] + bytes(byte ^ 1 << random_source.randrange(8) for byte in piece[:1]) + body[here + 1 :]
            ),
            lambda: body[:here] + str(random_source.randrange(10)).encode() + body[here + 1 :],
        )
    )()


_HEADS = (*_PAGES, b")]}',\n", b"callback(", b"while(1);")
_TAILS = (b" ", b"\x00", b"<!-- 0.01s -->", b";", b"null", b"\n{}")
_REPEATED = (b"[", b'{"a":', b'{"errorId":0,"data":[', b'"', b"9", b"-", b"0.", b"\\", b"<")
_CODECS = ("utf-16", "utf-16-le", "utf-32", "cp1252")


def _wrap(body: bytes, random_source: random.Random) -> bytes:
    return random_source.choice(
        (
            lambda: b"\xef\xbb\xbf" * random_source.choice((1, 1, 1, 2)) + body,
            lambda: body.decode(errors="replace").encode(random_source.choice(_CODECS), errors="replace"),
            lambda: body + random_source.choice((b"", b"\n")) + body,
            lambda: body + random_source.choice(_TAILS),
            lambda: random_source.choice(_HEADS) + body,
            lambda: json.dumps(body.decode(errors="replace")).encode(),
            lambda: b"[" + body + b"]",
            lambda: gzip.compress(body, 1),
            lambda: (
                random_source.choice((b" ", b"\n", b"\t\r\n", b"\xc2\xa0")) * random_source.choice((1, 1000)) + body
            ),
            lambda: random_source.choice(_PAGES),
            lambda: b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
            lambda: random_source.choice(_REPEATED) * random_source.choice((10, 1000, 20_000)),
            lambda: random_source.randbytes(random_source.choice((1, 8, 100, 1000))),
            lambda: body.replace(b"e", b"\xe9").replace(b"dat\xe9", b"date"),
        )
    )()


# ---------------------------------------------------------------- headers

STATUSES = (200, 204, 299, 300, 302, 399, 400, 403, 404, 429, 500, 502)
PLACES = (
    "",
    "/elsewhere",
    "https://user:pw@evil.example/x?clientKey=1",
    "http://[bad",
    "http://\u200b/",
    "//",
    "http://\ud800.example",
    "\x00",
)
_DATES = (
    *(
        "",
        "Thu, 01 Jan 2026 00:00:00 GMT",
        "Thu, 99 Foo 0000 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2300",
    ),
    *(
        "Thu, 01 Jan 2026 00:00:00 +99999999999",
        "Thu, 01 Jan 99999 00:00:00 GMT",
        "now",
        "0",
        "120",
        "-1",
        "1e5",
        "nan",
        "inf",
        "٣",
        "9" * 5000,
    ),
    *(
        "1767225600",
        "2026-01-01T00:00:00Z",
        "\ud800",
        ",",
        "Thu,",
        "00:00",
        "Jan",
        "Thu, 01 Jan 2026 24:00:00 GMT",
        "1 Jan 26 0:0:60 -0000",
    ),
)

# ---------------------------------------------------------------- whole responses


KINDS = ("spellings", "records", "lists", "bodies")
"""From responses that must be accepted to responses that must be rejected."""


def generate(seed: int, kind: str) -> HttpResponse:
    """Return the response of this seed. Equal seeds give equal responses on every machine."""
    random_source = random.Random(f"{kind} {seed}")
    level = KINDS.index(kind)
    context = random_source.choice(CONTEXTS)
    records = _day(random_source, context.hour_offset)
    for fields in records:
        _change_notation(fields, random_source)
    for _ in range(random_source.randrange(1, 4) if level >= 1 else 0):
        fields = random_source.choice(records)
        if fields:  # a mutation may have removed the last field
            random_source.choice(_BY_RECORD)(fields, random_source)
    texts = [_text(fields, random_source) for fields in records]
    wild = level >= 2
    text = _envelope(_listed(texts, random_source, wild), random_source, wild and random_source.random() < 0.5)
    body = text.encode(errors="surrogatepass")
    if level >= 3:
        if random_source.random() < 0.4:
            body = _wrap(body, random_source)
        for _ in range(random_source.randrange(1, 4) if random_source.random() < 0.8 else 0):
            body = _damage(body, random_source)
    status = 200 if random_source.random() < 0.9 else random_source.choice(STATUSES)
    return HttpResponse(
        body, status, random_source.choice(PLACES), random_source.choice(_DATES), random_source.choice(_DATES), context
    )
