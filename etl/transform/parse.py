"""Parse a response into a snapshot. Records that cannot be used become rejections; valid records are kept."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from etl import money
from etl.hour_values import HOURS_PER_DAY, HourValues
from etl.models import HOUR, Outcome, Record, Rejection, Snapshot, Window, day_start
from etl.money import to_dollars, to_nanodollars
from etl.responses import ApiError, RawRecord, RegularHours, Response, SuccessPayload
from etl.transform.dedupe import deduplicate_hours

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the largest datetime; also rejects millisecond timestamps
_HOUR_SECONDS = 3600

OFF_GRID = "off_grid"
OTHER_HOURS = "other_hours"
REJECTED = "rejected_records"


def parse_snapshot(response: Response, number: int, hour_offset: int | None) -> Snapshot:
    """Return the snapshot of one response.

    ``hour_offset`` is the start of a day's first hour minus 00:00 UTC, in seconds, -3599 to 3599; None if it is not
    known yet and must be inferred from the records.
    """
    reply = response.reply
    snapshot = Snapshot(
        number=number,
        window=response.window,
        requested_at=response.requested_at,
        outcome=Outcome.FAILED,
        status=response.status,
        body=response.body,
        compressed_body=response.compressed_body,
    )
    if isinstance(reply, SuccessPayload):
        return _fast_path(snapshot, reply.regular, hour_offset) or _parse_records(snapshot, reply, hour_offset)
    if isinstance(reply, ApiError):
        return replace(
            snapshot,
            outcome=Outcome.API_ERROR,
            code=reply.code,
            message=reply.description,
            error_scope=reply.scope,
        )
    return replace(snapshot, code=reply.code, message=reply.reason)


def infer_hour_offset(window: Window, hours: Iterable[datetime]) -> int | None:
    """Return the hour offset that a whole day's hours show, or None without any hour.

    Idle hours may be missing from a response, so hours at :45 can begin at 23:45 of the day before or at 00:45. They
    begin before the requested hour, as in the vendor's example, unless the response has the day's last hour.
    """
    ordered = sorted(set(hours))
    if not ordered:
        return None
    after = _past_hour(ordered[0])
    starts_after = window.start <= ordered[0] and ordered[-1] >= window.end - HOUR
    return after if starts_after or not after else after - _HOUR_SECONDS


def _fast_path(snapshot: Snapshot, regular: RegularHours | None, hour_offset: int | None) -> Snapshot | None:
    """The snapshot if the response has the window's own hours and no others, as nearly all have; otherwise None."""
    if regular is None or hour_offset is None:
        return None
    window, count = snapshot.window, len(regular.volumes)
    after_start = regular.first_second - hour_offset - int(window.start.timestamp())
    first = window.first_hour + after_start // _HOUR_SECONDS
    last_second = regular.first_second + (count - 1) * _HOUR_SECONDS
    is_own = after_start >= 0 and first + count <= HOURS_PER_DAY and last_second <= snapshot.requested_at.timestamp()
    if after_start % _HOUR_SECONDS or not is_own:
        return None
    before, after = (None,) * first, (None,) * (HOURS_PER_DAY - first - count)
    values = HourValues((*before, *regular.volumes, *after), (*before, *regular.nanodollars, *after))
    return replace(snapshot, outcome=Outcome.SUCCESS, values=values, hour_offset_seconds=hour_offset)


def _records(regular: RegularHours) -> Iterator[Record]:
    for number, (volume, nanodollars) in enumerate(zip(regular.volumes, regular.nanodollars, strict=True)):
        start = _EPOCH + timedelta(seconds=regular.first_second + number * _HOUR_SECONDS)
        yield Record(start, volume, to_dollars(nanodollars))


def _parse_records(snapshot: Snapshot, payload: SuccessPayload, hour_offset: int | None) -> Snapshot:
    valid: list[tuple[Record, str]] = [(record, "") for record in _records(payload.regular)] if payload.regular else []
    rejected: list[Rejection] = []
    for raw in payload.records:
        parsed = _parse_record(raw)
        if isinstance(parsed, Record):
            valid.append((parsed, raw.raw))
        else:
            rejected.append(parsed)

    window, hours = snapshot.window, [record.hour_start for record, _ in valid]
    if hour_offset is None:
        hour_offset = infer_hour_offset(window, (hour for hour in hours if hour <= snapshot.requested_at)) or 0
    if off_grid := [hour for hour in hours if _past_hour(hour) != hour_offset % _HOUR_SECONDS]:
        minutes, seconds = divmod(hour_offset % _HOUR_SECONDS, 60)
        message = (
            f"a record begins at {min(off_grid):%Y-%m-%dT%H:%M:%SZ}, "
            f"but the account's hours begin {minutes:02}:{seconds:02} past the hour"
        )
        return replace(snapshot, rejections=tuple(rejected), code=OFF_GRID, message=message)

    shift = timedelta(seconds=hour_offset)
    start, end = window.start + shift, window.end + shift

    def is_own(hour: datetime | None) -> bool:
        return hour is None or (start <= hour < end and hour <= snapshot.requested_at)

    own = [(record, raw) for record, raw in valid if is_own(record.hour_start)]
    # Earlier hours are another day's, unless the first contains the requested second: then idle hours are left out.
    earlier = [hour for hour in hours if hour < start]
    if earlier and not own and min(earlier) <= window.start - HOUR:
        message = (
            f"requested hours from {start:%Y-%m-%dT%H:%MZ}, but the response starts at {min(earlier):%Y-%m-%dT%H:%MZ}"
        )
        return replace(snapshot, rejections=tuple(rejected), code=OTHER_HOURS, message=message)
    own_rejected = [rejection for rejection in rejected if is_own(rejection.hour_start)]
    out_of_window = len(valid) + len(rejected) - len(own) - len(own_rejected)
    snapshot = replace(snapshot, out_of_window=out_of_window, lacks_data=payload.lacks_data)
    return _with_records(snapshot, own, own_rejected, hour_offset)


def _with_records(
    snapshot: Snapshot, own: Sequence[tuple[Record, str]], rejected: Sequence[Rejection], hour_offset: int
) -> Snapshot:
    """The snapshot with the records and rejections of the window's own hours."""
    records, duplicates = deduplicate_hours(own)
    first_hour = day_start(snapshot.window.day) + timedelta(seconds=hour_offset)
    by_hour = {
        (record.hour_start - first_hour) // HOUR: (record.volume, to_nanodollars(record.money)) for record in records
    }
    with_value = {record.hour_start for record in records}
    without_value = [rejection for rejection in rejected if rejection.hour_start not in with_value]
    outcome, code, message = Outcome.SUCCESS, "", ""
    if without_value:
        outcome, code = Outcome.PARTIAL if records else Outcome.FAILED, REJECTED
        number = len(own) + len(rejected) + snapshot.out_of_window
        message = f"{len(without_value)} of {number} records rejected ({without_value[0].reason})"
    return replace(
        snapshot,
        outcome=outcome,
        code=code,
        message=message,
        values=HourValues.of(by_hour),
        hour_offset_seconds=hour_offset if records else None,
        rejections=(*rejected, *duplicates),
    )


def _parse_record(raw: RawRecord) -> Record | Rejection:
    start, till = money.parse_int(raw.date_from), money.parse_int(raw.date_till)
    if start is None or not 0 <= start <= _LAST_SECOND:
        return Rejection(_problem("dateFrom", raw.date_from, "a time"), raw.raw)
    hour_start = _EPOCH + timedelta(seconds=start)
    volume, amount = money.parse_int(raw.volume), money.parse_money(raw.money)
    if till is None:
        reason = _problem("dateTill", raw.date_till, "a time")
    elif till < start:
        reason = "dateTill before dateFrom"
    elif till >= start + _HOUR_SECONDS:  # dateTill is inclusive; it may be earlier in an hour that has not ended
        reason = "spans more than one hour"
    elif volume is None:
        reason = _problem("volume", raw.volume, "a whole number")
    elif volume < 0:
        reason = "negative volume"
    elif amount is None:
        reason = _problem("money", raw.money, "a number")
    else:
        return Record(hour_start, volume, amount)
    return Rejection(reason, raw.raw, hour_start)


def _problem(field: str, value: object, kind: str) -> str:
    if value is None:
        return f"{field} is missing"
    number = money.parse_decimal(value)
    if number is None or (kind != "a number" and number != number.to_integral_value()):
        return f"{field} is not {kind}"
    return f"{field} is out of range"


def _past_hour(moment: datetime) -> int:
    """Seconds past the whole UTC hour."""
    return (moment - _EPOCH) // timedelta(seconds=1) % _HOUR_SECONDS
