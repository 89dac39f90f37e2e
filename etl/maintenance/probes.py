"""The open questions about the service: what one visit asks, and what its answers say. Pure.

Nobody has written down how the service treats dates, unknown names or idle hours. A visit asks what an account's own key can
settle, one request after the other; each answer says how sure it is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

from etl.extract import protocol
from etl.extract.client import ProbeResponse
from etl.extract.planner import NONEXISTENT_MEMBERS
from etl.extract.planner.members import unknown_name_behaviour
from etl.models import (
    DAY,
    HOUR,
    MAX_CLOCK_SKEW,
    TOTAL,
    ZERO_MEASURES,
    ApiRefusal,
    DayState,
    Dimension,
    ErrorScope,
    Measures,
    Record,
    SeriesKey,
    SuccessPayload,
    UnknownNameBehaviour,
    Window,
    day_start,
    queue,
)
from etl.transform import money, parse

ENOUGH = 3
"""So many requests in a row without records end a visit: the service is not well, or does not want to be asked."""

OFF_HOUR = timedelta(hours=12, minutes=17)
"""What is added to a midnight to get inside an hour, and off every likely grid."""

LONG_AGO = date(2015, 1, 1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = 253_402_300_799


class ProbeRequest(StrEnum):
    """What a visit asks for, in this order; an error that is to be expected stands between answers that are not."""

    DAY = "a closed day"
    MONTH = "30 days ago"
    YEAR = "a year ago"
    NO_QUEUE = "a queue that cannot exist"
    INSIDE = "a date inside an hour"
    NO_APP = "an app that cannot exist"
    RUNNING = "the running hour"
    NO_IP = "an address that cannot exist"
    LONG_AGO = "a day long ago"
    QUEUE = "a queue with idle hours"
    TOMORROW = "tomorrow"


_STRANGERS = {
    Dimension.QUEUE: ProbeRequest.NO_QUEUE,
    Dimension.APP: ProbeRequest.NO_APP,
    Dimension.IP: ProbeRequest.NO_IP,
}
_CLOSED = (ProbeRequest.DAY, ProbeRequest.MONTH, ProbeRequest.YEAR)

ProbeResponses = Mapping[ProbeRequest, ProbeResponse]
"""What a visit has brought so far, in the order it was asked."""


class Confidence(StrEnum):
    SURE = "sure"
    LIKELY = "likely"
    """It was seen, but something else could look the same."""
    OPEN = "open"
    """This visit could not tell; why stands in the place of the answer. Not kept."""


class Interpretation(NamedTuple):
    answer: str
    certainty: Confidence = Confidence.SURE


def _open(stop_reason: str) -> Interpretation:
    return Interpretation(stop_reason, Confidence.OPEN)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One question and its answer. ``filter`` and ``window_start`` are what was asked for it; None: what is held answered it."""

    question: str
    answer: str
    certainty: Confidence
    seen_at: datetime
    series: SeriesKey | None = None
    window_start: datetime | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class ProbeBaseline:
    """What the warehouse holds of the account that a visit can build on.

    ``day`` is the newest closed day with spend, ``queue`` the one with the fewest hours on it. ``split_days`` are closed days
    with spend of which queues were asked, ``explained_days`` those that the queues explain. ``hours`` of the total are held,
    ``corrected`` of them changed after they had ended, the last one noticed ``latest`` after its end.
    """

    day: date | None = None
    queue: str | None = None
    split_days: int = 0
    explained_days: int = 0
    hours: int = 0
    corrected: int = 0
    latest: timedelta | None = None


# ---------------------------------------------------------------- what to ask


def next_probe(
    heard: ProbeResponses, known: ProbeBaseline, now: datetime, account: str
) -> tuple[ProbeRequest, Window] | None:
    """What to ask now; None: the visit is over."""
    if fatal(heard) or failure(heard):
        return None
    windows = ((topic, _window(topic, heard, known, now, account)) for topic in ProbeRequest if topic not in heard)
    return next(((topic, window) for topic, window in windows if window), None)


def fatal(heard: ProbeResponses) -> ApiRefusal | None:
    """The refusal that ends the account, if one came."""
    replies = (visit.answer.reply for visit in heard.values())
    return next(
        (reply for reply in replies if isinstance(reply, ApiRefusal) and reply.effect is ErrorScope.ACCOUNT), None
    )


def failure(heard: ProbeResponses) -> str:
    """The code of the last reply, where too many in a row brought no records for the visit to go on; else nothing."""
    last = [visit.answer.reply for visit in heard.values()][-ENOUGH:]
    codes = [reply.code for reply in last if not isinstance(reply, SuccessPayload)]
    return codes[-1] if len(codes) == ENOUGH and ProbeRequest.TOMORROW not in heard else ""


def _window(
    topic: ProbeRequest, heard: ProbeResponses, known: ProbeBaseline, now: datetime, account: str
) -> Window | None:
    today, busy = now.date(), _busy_day(heard, known, now)
    match topic:
        case ProbeRequest.DAY:
            return Window.whole_day(account, TOTAL, known.day or today - DAY)
        case ProbeRequest.MONTH:
            return Window.whole_day(account, TOTAL, today - 30 * DAY)
        case ProbeRequest.YEAR:
            return Window.whole_day(account, TOTAL, today - 365 * DAY)
        case ProbeRequest.LONG_AGO:
            return Window.whole_day(account, TOTAL, LONG_AGO)
        case ProbeRequest.TOMORROW:
            return Window.whole_day(account, TOTAL, today + DAY)
        case ProbeRequest.INSIDE:
            start = day_start(busy) + OFF_HOUR
            return Window(account, TOTAL, busy, start, start + DAY)
        case ProbeRequest.RUNNING:
            start = now.replace(minute=0, second=0, microsecond=0) - 3 * HOUR
            return Window(account, TOTAL, start.date(), start, start + DAY)
        case ProbeRequest.QUEUE:
            return Window.whole_day(account, queue(known.queue), known.day) if known.queue and known.day else None
    dimension = next(dimension for dimension, asks in _STRANGERS.items() if asks is topic)
    return Window.whole_day(account, NONEXISTENT_MEMBERS[dimension], busy)


def _busy_day(heard: ProbeResponses, known: ProbeBaseline, now: datetime) -> date:
    topic = _busy(heard)
    return heard[topic].answer.window.day if topic in heard else known.day or now.date() - DAY


def _busy(heard: ProbeResponses) -> ProbeRequest:
    """Of the closed days asked for, the first with spend."""
    return next((topic for topic in _CLOSED if _spent(heard, topic)), ProbeRequest.DAY)


# ---------------------------------------------------------------- what came


def _records(visit: ProbeResponse) -> list[Record]:
    """The records that can be read, in order of time; an hour that came twice is there twice."""
    reply = visit.answer.reply
    found = []
    for raw in reply.records if isinstance(reply, SuccessPayload) else ():
        begins, volume, amount = money.whole(raw.date_from), money.whole(raw.volume), money.exact(raw.money)
        if begins is not None and 0 <= begins <= _LAST_SECOND and volume is not None and amount is not None:
            found.append(Record(_EPOCH + timedelta(seconds=begins), volume, amount))
    return sorted(found)


def _hours(heard: ProbeResponses, topic: ProbeRequest) -> dict[datetime, Measures]:
    return {record.hour_start: record.value for record in _records(heard[topic])} if topic in heard else {}


def _spent(heard: ProbeResponses, topic: ProbeRequest) -> dict[datetime, Measures]:
    return {hour: value for hour, value in _hours(heard, topic).items() if value != ZERO_MEASURES}


def _past(hour: datetime) -> timedelta:
    return (hour - _EPOCH) % HOUR


def _grid(window: Window, first: datetime) -> timedelta:
    """Where the account's hours begin beside the whole hour; negative when the first one asked for begins before it."""
    return first - window.start if -HOUR < first - window.start < timedelta(0) else _past(first)


def _account_grid(heard: ProbeResponses) -> timedelta:
    topic = _busy(heard)
    hours = _hours(heard, topic)
    return _grid(heard[topic].answer.window, min(hours)) if hours else timedelta(0)


def unknown_name_behaviours(heard: ProbeResponses) -> dict[Dimension, UnknownNameBehaviour]:
    """What a member of each cut that cannot exist gives, where this visit shows it."""
    found = {}
    for dimension, topic in _STRANGERS.items():
        if topic not in heard:
            continue
        answer = heard[topic].answer
        temporary_beside = DayState(answer.window.day, hours=_hours(heard, _busy(heard)))
        if taught := unknown_name_behaviour(parse.read(answer, 0, None), temporary_beside):
            found[dimension] = taught
    return found


# ---------------------------------------------------------------- what it says


def answers(heard: ProbeResponses, known: ProbeBaseline, now: datetime) -> list[ProbeResult]:
    """Every question with what this visit, or what is held, says to it."""
    asked = (
        ("hours begin at", _busy(heard), _where_hours_begin),
        ("date at midnight", _busy(heard), _midnight),
        ("date inside an hour", ProbeRequest.INSIDE, _inside_an_hour),
        ("unknown queue", ProbeRequest.NO_QUEUE, _stranger),
        ("unknown softId", ProbeRequest.NO_APP, _stranger),
        ("unknown ip", ProbeRequest.NO_IP, _stranger),
        ("date 30 days ago", ProbeRequest.MONTH, _another_time),
        ("date 1 year ago", ProbeRequest.YEAR, _another_time),
        (f"date in {LONG_AGO.year}", ProbeRequest.LONG_AGO, _another_time),
        ("date tomorrow", ProbeRequest.TOMORROW, _another_time),
        ("running hour", ProbeRequest.RUNNING, _running_hour),
        ("hours not begun", ProbeRequest.RUNNING, _hours_not_begun),
        ("idle hour", _idle_topic(heard), _idle_hour),
        ("volume is a", _busy(heard), _volume),
        ("money is a", _busy(heard), _money),
        ("data is", _busy(heard), _listed),
        ("an hour twice", _busy(heard), _twice),
        ("error comes as", _error_topic(heard), _error),
    )
    told = [_probe(question, topic, say, heard, now) for question, topic, say in asked]
    from_what_is_held = (("sum of queues", _sum_of_queues(known)), ("a closed hour", _closed_hour(known)))
    return told + [ProbeResult(question, said.answer, said.certainty, now) for question, said in from_what_is_held]


def _probe(
    question: str,
    topic: ProbeRequest,
    say: "Callable[[ProbeResponses, ProbeRequest], Interpretation]",
    heard: ProbeResponses,
    now: datetime,
) -> ProbeResult:
    if topic not in heard:
        return ProbeResult(question, "not asked", Confidence.OPEN, now)
    answer = heard[topic].answer
    reply, window = answer.reply, answer.window
    is_error = isinstance(reply, ApiRefusal) and reply.effect in (ErrorScope.WINDOW, ErrorScope.FILTER)
    if isinstance(reply, SuccessPayload) or (is_error and say in (_stranger, _another_time)) or say is _error:
        said = say(heard, topic)
    else:
        said = _open(f"no answer: {reply.code}")
    return ProbeResult(
        question, said.answer, said.certainty, answer.requested_at, window.series, window.start, answer.status
    )


def _where_hours_begin(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    hours = _hours(heard, topic)
    if not hours:
        return _open("no records came")
    past = _past(min(hours))
    return Interpretation("the whole UTC hour" if not past else f"{_clock(past)} past the hour")


def _clock(span: timedelta) -> str:
    minutes, seconds = divmod(span // timedelta(seconds=1), 60)
    return f"{minutes} min {seconds} s" if seconds else f"{minutes} minutes"


def _midnight(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    hours, window = _hours(heard, topic), heard[topic].answer.window
    if not hours:
        return _open("no records came")
    first, last = min(hours), max(hours)
    grid = _grid(window, first)
    reach = {22: "the last hour is missing", 23: "the last hour is there", 24: "the next day's first hour too"}
    place = (last - window.start - grid) // HOUR
    said = f"{len(hours)} records, {first:%H:%M} to {last:%H:%M}: {reach.get(place, 'not a whole day')}"
    is_whole = len(hours) == place + 1 and place in reach
    return Interpretation(said, Confidence.SURE if is_whole else Confidence.LIKELY)


def _inside_an_hour(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    hours, start = _hours(heard, topic), heard[topic].answer.window.start
    if not hours:
        return _open("no records came")
    first, grid = min(hours), _past(_EPOCH + _account_grid(heard))
    if _past(first) == _past(start):
        return Interpretation("shifted: hours begin at that very second")
    if _past(first) != grid:
        return Interpretation(f"hours begin {_clock(_past(first))} past the hour", Confidence.LIKELY)
    return (
        Interpretation(f"snapped back to {first:%H:%M}")
        if first <= start
        else Interpretation(f"snapped on to {first:%H:%M}", Confidence.LIKELY)
    )


def _stranger(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    reply, total = heard[topic].answer.reply, _spent(heard, _busy(heard))
    if isinstance(reply, ApiRefusal):
        return Interpretation(f"error {reply.code}")
    if not total:
        return _open("zeros or the total: the day has no spend")
    spent = _spent(heard, topic)
    if not spent:
        return Interpretation("zeros" if _hours(heard, topic) else "zeros: no records at all")
    return (
        Interpretation("the account's total")
        if spent == total
        else Interpretation("spend that is not the total's", Confidence.LIKELY)
    )


def _another_time(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    answer = heard[topic].answer
    if isinstance(answer.reply, ApiRefusal):
        return Interpretation(f"error {answer.reply.code}")
    hours, window = _hours(heard, topic), answer.window
    if not hours:
        return Interpretation("no records")
    if min(hours) <= window.start - HOUR or max(hours) > window.end:
        return Interpretation(f"other hours, from {min(hours):%Y-%m-%d %H:%M}")
    return Interpretation(
        f"{len(hours)} records with spend" if _spent(heard, topic) else f"{len(hours)} records, all zero"
    )


def _running_hour(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    hours, (running, is_known) = _hours(heard, topic), _now_running(heard, topic)
    if not is_known:
        return _open("this machine's clock and the server's differ")
    if running in hours:
        return Interpretation("included")
    return Interpretation("left out", Confidence.LIKELY) if hours else _open("no records came")


def _hours_not_begun(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    hours, (running, is_known) = _hours(heard, topic), _now_running(heard, topic)
    if not is_known or not hours:
        return _open("this machine's clock and the server's differ" if hours else "no records came")
    later = [value for hour, value in hours.items() if hour > running]
    if not later:
        return Interpretation("left out", Confidence.SURE if running in hours else Confidence.LIKELY)
    return Interpretation("come as zeros" if set(later) == {ZERO_MEASURES} else "come, some with spend")


def _now_running(heard: ProbeResponses, topic: ProbeRequest) -> tuple[datetime, bool]:
    """The hour that was running on the account's grid, and whether the two clocks agree enough to say so."""
    answer, grid = heard[topic].answer, _account_grid(heard)
    requested_at = answer.server_time or answer.requested_at
    agree = abs(requested_at - answer.requested_at) <= MAX_CLOCK_SKEW
    return requested_at - (requested_at - _EPOCH - grid) % HOUR, agree


def _idle_evidence(heard: ProbeResponses, topic: ProbeRequest) -> tuple[bool, bool]:
    """Whether a past hour came as zero, and whether one between two others was left out."""
    hours = _hours(heard, topic)
    has_gap = bool(hours) and len(hours) <= (max(hours) - min(hours)) // HOUR
    return ZERO_MEASURES in hours.values(), has_gap


def _past_topics(heard: ProbeResponses) -> list[ProbeRequest]:
    return [topic for topic in heard if topic not in (ProbeRequest.RUNNING, ProbeRequest.TOMORROW, ProbeRequest.INSIDE)]


def _idle_topic(heard: ProbeResponses) -> ProbeRequest:
    return next((topic for topic in _past_topics(heard) if any(_idle_evidence(heard, topic))), ProbeRequest.DAY)


def _idle_hour(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    evidence = [_idle_evidence(heard, topic) for topic in _past_topics(heard)]
    comes, is_left_out = any(zero for zero, _ in evidence), any(gap for _, gap in evidence)
    if comes and is_left_out:
        return Interpretation("zero, and sometimes left out", Confidence.LIKELY)
    if comes or is_left_out:
        return Interpretation("zero" if comes else "left out")
    window, hours = heard[topic].answer.window, _hours(heard, topic)
    if hours and min(hours) - window.start >= HOUR:
        return Interpretation("left out", Confidence.LIKELY)
    return _open("no idle hour was met")


def _volume(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    return _kind(heard[topic], lambda raw: raw[2])


def _money(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    said = _kind(heard[topic], lambda raw: raw[3])
    reply = heard[topic].answer.reply
    numbers = [money.number(raw.money) for raw in reply.records] if isinstance(reply, SuccessPayload) else []
    places = max((_places(number) for number in numbers if number), default=0)
    noise = ", float noise" if places > money.SCALE else ""
    return (
        said._replace(answer=f"{said.answer}, up to {places} places{noise}")
        if said.certainty is not Confidence.OPEN
        else said
    )


def _places(number: Decimal) -> int:
    return max(0, -int(number.as_tuple().exponent))


def _kind(visit: ProbeResponse, field: "Callable[[tuple[object, ...]], object]") -> Interpretation:
    reply = visit.answer.reply
    values = [field(raw) for raw in reply.records] if isinstance(reply, SuccessPayload) else []
    kinds = sorted({_KINDS.get(type(value), "something else") for value in values})
    return Interpretation(" or ".join(kinds)) if kinds else _open("no records came")


_KINDS: Mapping[type, str] = {int: "number", Decimal: "number", str: "string", type(None): "null"}


def _listed(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    answer = heard[topic].answer
    return Interpretation(
        {"list": "a list", "object": "an object"}.get(found := protocol.data_shape(answer.body), found)
    )


def _twice(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    records = _records(heard[topic])
    twice = [list(same) for _, same in groupby(records, key=lambda record: record.hour_start)]
    twice = [same for same in twice if len(same) > 1]
    if not twice:
        return Interpretation("no", Confidence.LIKELY) if records else _open("no records came")
    return Interpretation("yes, the same" if all(len(set(same)) == 1 for same in twice) else "yes, and they differ")


def _error_topic(heard: ProbeResponses) -> ProbeRequest:
    return next(
        (topic for topic, visit in heard.items() if isinstance(visit.answer.reply, ApiRefusal)), ProbeRequest.NO_QUEUE
    )


def _error(heard: ProbeResponses, topic: ProbeRequest) -> Interpretation:
    visit = heard[topic]
    if not isinstance(visit.answer.reply, ApiRefusal):
        return _open("no error came")
    kind = visit.headers.get("content-type", "no content-type")
    return Interpretation(f"HTTP {visit.answer.status}, {kind}; headers: {_some(sorted(visit.headers))}")


def _some(names: Iterable[str]) -> str:
    return protocol.clean(", ".join(names), 200)


# ---------------------------------------------------------------- what the warehouse says


def _sum_of_queues(known: ProbeBaseline) -> Interpretation:
    if not known.split_days:
        return _open("no closed day with queues is held")
    certainty = Confidence.SURE if known.explained_days == known.split_days else Confidence.LIKELY
    return Interpretation(
        f"is the total on {known.explained_days:,} of {known.split_days:,} closed days with spend", certainty
    )


def _closed_hour(known: ProbeBaseline) -> Interpretation:
    if known.corrected:
        latest = f", noticed up to {(known.latest or timedelta(0)) // HOUR:,} h after its end"
        return Interpretation(f"changed in {known.corrected:,} of {known.hours:,} hours{latest}")
    if not known.hours:
        return _open("no hours are held")
    return Interpretation(f"no change seen in {known.hours:,} hours", Confidence.LIKELY)


def kept(probes: Iterable[ProbeResult]) -> Iterator[ProbeResult]:
    """Those worth remembering."""
    return (probe for probe in probes if probe.certainty is not Confidence.OPEN)
