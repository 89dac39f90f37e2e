"""An answer becomes a reading: a bad record becomes a rejection, the good ones go on."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from etl.models import HOUR, ErrorScope, Outcome, Record, Rejection, Snapshot, Window
from etl.responses import ApiError, RawRecord, Response, SuccessPayload
from etl.transform import money
from etl.transform.dedupe import deduplicate_hours

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, where datetime ends; milliseconds are beyond it too
_HOUR_SECONDS = 3600

OFF_GRID = "off_grid"
OTHER_HOURS = "other_hours"
REJECTED = "rejected_records"


def parse_snapshot(answer: Response, number: int, grid: int | None) -> Snapshot:
    """The reading of one answer.

    ``grid`` is the second at which the account's hours begin, counted from the whole hour that was asked for;
    negative when the first hour began before it; None while no good reading has shown it (then the records decide).
    """
    reply = answer.reply
    if isinstance(reply, SuccessPayload):
        return _read_rows(answer, reply, number, grid)
    if isinstance(reply, ApiError):
        return _reading(
            answer, number, Outcome.API_ERROR, code=reply.code, message=reply.description, effect=reply.scope
        )
    return _reading(answer, number, Outcome.FAILED, code=reply.code, message=reply.reason)


def infer_hour_offset(window: Window, snapshot: Snapshot) -> int | None:
    """The grid that a first good reading shows; None when it has no records."""
    return _grid(window, (record.hour_start for record in snapshot.records))


def _grid(window: Window, hours: Iterable[datetime]) -> int | None:
    begun = sorted(set(hours))
    if not begun:
        return None
    first, last = begun[0], begun[-1]
    # Hours that begin after the asked one are certain only where nothing was left out before them or between them.
    is_whole = window.start <= first < window.start + HOUR and len(begun) > (last - first) // HOUR
    return _phase(first) if is_whole else -(-_phase(first) % _HOUR_SECONDS)


def _read_rows(answer: Response, rows: SuccessPayload, number: int, grid: int | None) -> Snapshot:
    good: list[tuple[Record, str]] = []
    bad: list[Rejection] = []
    for raw in rows.records:
        found = _record(raw)
        if isinstance(found, Record):
            good.append((found, raw.raw))
        else:
            bad.append(found)

    if grid is None:
        grid = _grid(answer.window, (record.hour_start for record, _ in good)) or 0
    strangers = sorted(record.hour_start for record, _ in good if _phase(record.hour_start) != grid % _HOUR_SECONDS)
    if strangers:
        message = (
            f"a record begins at {strangers[0]:%Y-%m-%dT%H:%M:%SZ}; "
            f"the account's hours begin {_past(grid)} past the hour"
        )
        return _reading(answer, number, Outcome.FAILED, rejections=tuple(bad), code=OFF_GRID, message=message)

    shift = timedelta(seconds=grid)
    start, end = answer.window.start + shift, answer.window.end + shift

    def is_own(hour: datetime | None) -> bool:
        return hour is None or (start <= hour < end and hour <= answer.requested_at)

    own = [(record, raw) for record, raw in good if is_own(record.hour_start)]
    earlier = [record.hour_start for record, _ in good if record.hour_start < start]
    if earlier and not own:
        message = (
            f"asked from {start:%Y-%m-%dT%H:%MZ}, answered only with other hours, "
            f"the first {min(earlier):%Y-%m-%dT%H:%MZ}"
        )
        return _reading(answer, number, Outcome.FAILED, rejections=tuple(bad), code=OTHER_HOURS, message=message)
    refused = [rejection for rejection in bad if is_own(rejection.hour_start)]
    outside = len(rows.records) - len(own) - len(refused)
    records, lost = deduplicate_hours(own)
    rejections = (*refused, *lost)

    covered = {record.hour_start for record in records}
    uncovering = [rejection for rejection in rejections if rejection.hour_start not in covered]
    if not uncovering:
        return _reading(answer, number, Outcome.SUCCESS, records, rejections, outside)
    message = f"{len(uncovering)} of {len(rows.records)} records refused, the first because {uncovering[0].reason}"
    outcome = Outcome.PARTIAL if records else Outcome.FAILED
    return _reading(answer, number, outcome, records, rejections, outside, REJECTED, message)


def _reading(
    answer: Response,
    number: int,
    outcome: Outcome,
    records: tuple[Record, ...] = (),
    rejections: tuple[Rejection, ...] = (),
    outside: int = 0,
    code: str = "",
    message: str = "",
    effect: ErrorScope | None = None,
) -> Snapshot:
    return Snapshot(
        number=number,
        window=answer.window,
        requested_at=answer.requested_at,
        outcome=outcome,
        records=records,
        rejections=rejections,
        out_of_window=outside,
        code=code,
        message=message,
        error_scope=effect,
        status=answer.status,
        body=answer.body,
        compressed_body=answer.compressed_body,
    )


# ---------------------------------------------------------------- one record


def _record(raw: RawRecord) -> Record | Rejection:
    begins, ends = money.parse_int(raw.date_from), money.parse_int(raw.date_till)
    if begins is None or not 0 <= begins <= _LAST_SECOND:
        return Rejection(_not("dateFrom", raw.date_from, "a time"), raw.raw)
    hour_start = _EPOCH + timedelta(seconds=begins)
    volume, amount = money.parse_int(raw.volume), money.parse_money(raw.money)
    if ends is None:
        reason = _not("dateTill", raw.date_till, "a time")
    elif ends < begins:
        reason = "dateTill before dateFrom"
    elif ends >= begins + _HOUR_SECONDS:  # dateTill is inclusive; a running hour may be cut short at now
        reason = "spans more than one hour"
    elif volume is None:
        reason = _not("volume", raw.volume, "a whole number")
    elif volume < 0:
        reason = "negative volume"
    elif amount is None:
        reason = _not("money", raw.money, "a number")
    else:
        return Record(hour_start, volume, amount)
    return Rejection(reason, raw.raw, hour_start)


def _not(field: str, value: object, kind: str) -> str:
    """Why ``value`` was refused as ``kind``."""
    if value is None:
        return f"{field} is missing"
    found = money.parse_decimal(value)
    if found is None or (kind != "a number" and found != found.to_integral_value()):
        return f"{field} is not {kind}"
    return f"{field} is out of range"


def _phase(hour_start: datetime) -> int:
    """Seconds past the whole UTC hour."""
    return _seconds(hour_start - _EPOCH) % _HOUR_SECONDS


def _seconds(span: timedelta) -> int:
    return span // timedelta(seconds=1)


def _past(grid: int) -> str:
    minutes, seconds = divmod(grid % _HOUR_SECONDS, 60)
    return f"{minutes:02}:{seconds:02}"
