from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from etl.models import DAY, HOUR, TOTAL, ErrorScope, Outcome, Record, Rejection, Snapshot, Window
from etl.responses import ApiError, InvalidResponse, RawRecord, Response, SuccessPayload, TransportError
from etl.transform.parse import infer_hour_offset, parse_snapshot

START = datetime(2019, 2, 19, tzinfo=UTC)
WINDOW = Window.whole_day("default", TOTAL, date(2019, 2, 19))
LATER = START + DAY + HOUR


def raw(begins: datetime | object, volume: object = 5, money: object = "1.5", lasts: object = 3599) -> RawRecord:
    second = int(begins.timestamp()) if isinstance(begins, datetime) else begins
    till = second + lasts if isinstance(second, int) and isinstance(lasts, int) else lasts
    return RawRecord(second, till, volume, money, f"{second}/{volume}/{money}")


def answer(*records: RawRecord, requested_at: datetime = LATER, window: Window = WINDOW) -> Response:
    return Response(window, requested_at, SuccessPayload(records), 200, b"{}", 2)


def hours(snapshot: Snapshot) -> list[float]:
    return [(record.hour_start - START) / HOUR for record in snapshot.records]


def day(grid: timedelta = timedelta(0), count: int = 24) -> Iterable[RawRecord]:
    return (raw(START + grid + n * HOUR) for n in range(count))


# ---------------------------------------------------------------- what became of the answer


@pytest.mark.parametrize(
    ("reply", "outcome", "code"),
    [
        (ApiError("ERROR_X", "why", ErrorScope.WINDOW), Outcome.API_ERROR, "ERROR_X"),
        (InvalidResponse("html", "why"), Outcome.FAILED, "html"),
        (TransportError("dns", "why"), Outcome.FAILED, "dns"),
    ],
)
def test_what_is_not_records_is_kept_with_its_reason(
    reply: ApiError | InvalidResponse | TransportError, outcome: Outcome, code: str
) -> None:
    snapshot = parse_snapshot(replace(answer(), reply=reply), 7, 0)
    effect = reply.scope if isinstance(reply, ApiError) else None
    expected = Snapshot(7, WINDOW, LATER, outcome, code=code, message="why", status=200, body=b"{}", error_scope=effect)
    assert snapshot == expected


def test_a_good_answer_is_a_good_reading_in_order_of_time() -> None:
    snapshot = parse_snapshot(answer(*reversed(list(day()))), 7, 0)
    assert snapshot.is_success
    assert hours(snapshot) == list(range(24))
    assert snapshot.records[0] == Record(START, 5, Decimal("1.5"))
    assert (snapshot.number, snapshot.status, snapshot.body, snapshot.requested_at) == (7, 200, b"{}", LATER)


def test_an_empty_answer_is_good_and_shows_no_grid() -> None:
    snapshot = parse_snapshot(answer(), 1, None)
    assert (snapshot.is_success, snapshot.records, infer_hour_offset(WINDOW, snapshot.values_by_hour)) == (True, (), None)


# ---------------------------------------------------------------- single records


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (raw(START, volume=-1), "negative volume"),
        (raw(START, volume=None), "volume is missing"),
        (raw(START, volume="1.5"), "volume is not a whole number"),
        (raw(START, volume=True), "volume is not a whole number"),
        (raw(START, volume=2**63), "volume is out of range"),
        (raw(START, money=None), "money is missing"),
        (raw(START, money="NaN"), "money is not a number"),
        (raw(START, money="1000000000.5"), "money is out of range"),
        (raw(START, money=Decimal("1e999999999")), "money is out of range"),
        (raw(START, lasts=-1), "dateTill before dateFrom"),
        (raw(START, lasts=3600), "spans more than one hour"),
        (raw(START, lasts="soon"), "dateTill is not a time"),
        (raw(START, lasts=None), "dateTill is missing"),
    ],
)
def test_a_bad_record_is_a_rejection_of_its_hour(bad: RawRecord, reason: str) -> None:
    snapshot = parse_snapshot(answer(bad, raw(START + HOUR)), 1, 0)
    assert snapshot.rejections == (Rejection(reason, bad.raw, START),)
    assert (snapshot.outcome, snapshot.code, hours(snapshot)) == (Outcome.PARTIAL, "rejected_records", [1])
    assert snapshot.message == f"1 of 2 records rejected ({reason})"


@pytest.mark.parametrize(
    ("begins", "reason"),
    [
        (None, "dateFrom is missing"),
        ("today", "dateFrom is not a time"),
        (Decimal("0.5"), "dateFrom is not a time"),
        (-3600, "dateFrom is out of range"),
        (1_550_534_400_000, "dateFrom is out of range"),
    ],
)
def test_a_record_of_no_known_hour_leaves_the_window_failed(begins: object, reason: str) -> None:
    bad = raw(begins)
    snapshot = parse_snapshot(answer(bad, raw(START)), 1, 0)
    assert snapshot.rejections == (Rejection(reason, bad.raw, None),)
    assert snapshot.outcome is Outcome.PARTIAL


def test_an_answer_of_nothing_but_rejections_is_broken_and_keeps_them() -> None:
    snapshot = parse_snapshot(answer(raw(START, volume=-1), raw(START + HOUR, volume=-1)), 1, 0)
    assert (snapshot.outcome, snapshot.code, snapshot.records, len(snapshot.rejections)) == (
        Outcome.FAILED,
        "rejected_records",
        (),
        2,
    )


def test_a_rejection_beside_a_good_record_of_its_hour_harms_nothing() -> None:
    snapshot = parse_snapshot(answer(raw(START, volume=-1), raw(START)), 1, 0)
    assert (snapshot.outcome, snapshot.code, len(snapshot.rejections)) == (Outcome.SUCCESS, "", 1)


def test_two_records_of_one_hour_leave_the_larger_and_a_rejection() -> None:
    snapshot = parse_snapshot(answer(raw(START, volume=6), raw(START, volume=5)), 1, 0)
    assert snapshot.is_success
    assert [record.volume for record in snapshot.records] == [6]
    assert [rejection.hour_start for rejection in snapshot.rejections] == [START]


def test_strings_float_noise_and_refunds_are_loaded() -> None:
    record = RawRecord("1550534400", "1550537999.0", "1899", Decimal("-7.4959480000000003"), "")
    assert parse_snapshot(answer(record), 1, 0).records == (Record(START, 1899, Decimal("-7.495948")),)


@pytest.mark.parametrize("lasts", [0, 1, 1799, 3599])
def test_a_running_hour_cut_at_now_is_its_hours_record(lasts: int) -> None:
    assert hours(parse_snapshot(answer(raw(START, lasts=lasts)), 1, 0)) == [0]


# ---------------------------------------------------------------- hours that are not the window's own


def test_records_outside_the_window_are_counted_and_nothing_else() -> None:
    snapshot = parse_snapshot(
        answer(raw(START - HOUR), raw(START), raw(START + DAY), raw(START + DAY, volume=-1)), 1, 0
    )
    assert (snapshot.outcome, hours(snapshot), snapshot.out_of_window, snapshot.rejections) == (
        Outcome.SUCCESS,
        [0],
        3,
        (),
    )


def test_hours_not_begun_when_asked_are_set_aside() -> None:
    snapshot = parse_snapshot(answer(*day(), requested_at=START + 3 * HOUR), 1, 0)
    assert (hours(snapshot), snapshot.out_of_window) == ([0, 1, 2, 3], 20)


# ---------------------------------------------------------------- the grid


QUARTER = timedelta(minutes=15)


@pytest.mark.parametrize("grid", [0, None])
def test_a_record_off_the_grid_breaks_the_whole_reading(grid: int | None) -> None:
    snapshot = parse_snapshot(answer(raw(START), raw(START + HOUR + QUARTER)), 1, grid)
    assert (snapshot.outcome, snapshot.code, snapshot.records) == (Outcome.FAILED, "off_grid", ())
    assert "2019-02-19T01:15:00Z" in snapshot.message
    assert "00:00 past the hour" in snapshot.message


def test_whole_hours_are_off_a_shifted_accounts_grid() -> None:
    snapshot = parse_snapshot(answer(raw(START)), 1, -900)
    assert (snapshot.code, "45:00 past the hour" in snapshot.message) == ("off_grid", True)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("shift", "grid"),
    [(-QUARTER, -900), (3 * QUARTER, 2700), (timedelta(0), 0), (timedelta(seconds=1 - 3600), 1 - 3600)],
)
def test_a_history_on_its_own_grid_is_whole(shift: timedelta, grid: int, known: bool) -> None:
    snapshot = parse_snapshot(answer(*day(shift)), 1, grid if known else None)
    assert snapshot.is_success
    assert (len(snapshot.records), snapshot.out_of_window) == (24, 0)
    assert infer_hour_offset(WINDOW, snapshot.values_by_hour) == grid


def test_the_hour_before_and_after_a_shifted_day_are_outside() -> None:
    snapshot = parse_snapshot(answer(*day(-QUARTER - HOUR, 26)), 1, -900)
    assert (hours(snapshot)[0], hours(snapshot)[-1], snapshot.out_of_window) == (-0.25, 22.75, 2)


def test_where_hours_are_left_out_the_first_one_is_taken_to_begin_before_the_asked_one() -> None:
    snapshot = parse_snapshot(answer(raw(START + 5 * HOUR + QUARTER)), 1, None)
    assert (infer_hour_offset(WINDOW, snapshot.values_by_hour), hours(snapshot)) == (-2700, [5.25])


def test_an_hour_of_the_day_before_is_outside_and_no_grid() -> None:
    snapshot = parse_snapshot(answer(raw(START - HOUR), raw(START)), 1, None)
    assert (infer_hour_offset(WINDOW, snapshot.values_by_hour), hours(snapshot), snapshot.out_of_window) == (0, [0], 1)


@pytest.mark.parametrize(("start", "grid"), [(START, -900), (START - HOUR, -900)])
def test_the_vendors_example_begins_at_a_quarter_to_midnight(start: datetime, grid: int) -> None:
    window = Window("default", TOTAL, date(2019, 2, 19), start, start + DAY)
    records = (
        RawRecord(1550533500, 1550537099, 1899, Decimal("7.495948"), ""),
        RawRecord(1550537100, 1550540699, 2217, Decimal("7.861741"), ""),
        RawRecord(1550612700, 1550616299, 2156, Decimal("7.827058"), ""),
    )
    snapshot = parse_snapshot(answer(*records, window=window), 1, None)
    assert snapshot.is_success
    assert snapshot.records == (
        Record(datetime(2019, 2, 18, 23, 45, tzinfo=UTC), 1899, Decimal("7.495948")),
        Record(datetime(2019, 2, 19, 0, 45, tzinfo=UTC), 2217, Decimal("7.861741")),
        Record(datetime(2019, 2, 19, 21, 45, tzinfo=UTC), 2156, Decimal("7.827058")),
    )
    assert infer_hour_offset(window, snapshot.values_by_hour) == grid
    assert parse_snapshot(answer(*records, window=window), 1, grid) == snapshot


def test_an_answer_with_only_earlier_hours_is_of_another_window_and_no_sign_of_idleness() -> None:
    snapshot = parse_snapshot(answer(*(raw(START - DAY + n * HOUR) for n in range(24))), 7, 0)
    assert (snapshot.outcome, snapshot.code) == (Outcome.FAILED, "other_hours")


def test_a_tail_answered_with_later_hours_alone_is_good_and_empty() -> None:
    tail = replace(WINDOW, start=START + 23 * HOUR)
    snapshot = parse_snapshot(
        answer(*(raw(START + DAY + n * HOUR) for n in range(24)), requested_at=START + 3 * DAY, window=tail), 7, 0
    )
    assert (snapshot.outcome, snapshot.records, snapshot.out_of_window) == (Outcome.SUCCESS, (), 24)
