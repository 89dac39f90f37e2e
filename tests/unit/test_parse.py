from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from etl.models import DAY, HOUR, TOTAL, ErrorScope, Outcome, Record, Rejection, Snapshot, Window
from etl.responses import ApiError, InvalidResponse, RawRecord, RegularHours, Response, SuccessPayload, TransportError
from etl.transform.parse import parse_snapshot
from tests.core import records_of

START = datetime(2019, 2, 19, tzinfo=UTC)
WINDOW = Window.whole_day("default", TOTAL, date(2019, 2, 19))
LATER = START + DAY + HOUR


def raw(starts_at: datetime | object, volume: object = 5, money: object = "1.5", seconds: object = 3599) -> RawRecord:
    second = int(starts_at.timestamp()) if isinstance(starts_at, datetime) else starts_at
    till = second + seconds if isinstance(second, int) and isinstance(seconds, int) else seconds
    return RawRecord(second, till, volume, money, f"{second}/{volume}/{money}")


def response(*records: RawRecord, requested_at: datetime = LATER, window: Window = WINDOW) -> Response:
    return Response(window, requested_at, SuccessPayload(records), 200, b"{}", 2)


def hours(snapshot: Snapshot) -> list[float]:
    return [(record.hour_start - START) / HOUR for record in records_of(snapshot)]


def day(hour_offset: timedelta = timedelta(0), count: int = 24) -> Iterable[RawRecord]:
    return (raw(START + hour_offset + n * HOUR) for n in range(count))


# ---------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    ("reply", "outcome", "code"),
    [
        (ApiError("ERROR_X", "why", ErrorScope.WINDOW), Outcome.API_ERROR, "ERROR_X"),
        (InvalidResponse("html", "why"), Outcome.FAILED, "html"),
        (TransportError("dns", "why"), Outcome.FAILED, "dns"),
    ],
)
def test_errors_become_snapshots_with_their_code(
    reply: ApiError | InvalidResponse | TransportError, outcome: Outcome, code: str
) -> None:
    snapshot = parse_snapshot(replace(response(), reply=reply), 7, 0)
    scope = reply.scope if isinstance(reply, ApiError) else None
    expected = Snapshot(7, WINDOW, LATER, outcome, code=code, message="why", status=200, body=b"{}", error_scope=scope)
    assert snapshot == expected


@pytest.mark.parametrize("offset", [0, 900, -900])
@pytest.mark.parametrize(
    ("window_start", "first", "count", "now"),
    [
        (0, 0, 24, 25),
        (0, 0, 25, 26),
        (0, 0, 9, 10),
        (0, 2, 9, 25),
        (0, 1, 23, 25),
        (0, 1, 24, 26),
        (0, 23, 1, 25),
        (0, -1, 9, 25),
        (0, -1, 1, 25),
        (0, 0, 9, 8),
        (0, 0, 9, 7),
        (5, 5, 19, 25),
        (5, 5, 1, 25),
        (5, 7, 17, 25),
        (5, 7, 18, 26),
        (5, 4, 3, 25),
        (23, 23, 1, 25),
    ],
)
def test_regular_hours_are_read_like_any_other_records(
    window_start: int, first: int, count: int, now: int, offset: int
) -> None:
    begin, shift = replace(WINDOW, start=START + window_start * HOUR), timedelta(seconds=offset)
    starts = [START + shift + n * HOUR for n in range(first, first + count)]
    records = [raw(start, volume=5 + n, money=f"{n}.5") for n, start in enumerate(starts)]
    answer = response(*records, requested_at=START + now * HOUR + shift, window=begin)
    regular = RegularHours(
        int(starts[0].timestamp()),
        tuple(5 + n for n in range(count)),
        tuple(n * 10**9 + 500_000_000 for n in range(count)),
    )
    fast = replace(answer, reply=SuccessPayload(regular=regular))
    assert parse_snapshot(fast, 7, offset) == parse_snapshot(answer, 7, offset)
    assert parse_snapshot(fast, 7, None) == parse_snapshot(answer, 7, None)
    other_offset = parse_snapshot(fast, 7, offset + 60)
    assert other_offset == parse_snapshot(answer, 7, offset + 60)
    assert other_offset.code == "off_grid"


@pytest.mark.parametrize("lacks_data", [True, False])
def test_a_snapshot_without_records_knows_whether_its_response_had_data(lacks_data: bool) -> None:
    snapshot = parse_snapshot(replace(response(), reply=SuccessPayload(lacks_data=lacks_data)), 7, 0)
    assert (snapshot.is_success, snapshot.lacks_data) == (True, lacks_data)


def test_a_successful_response_becomes_a_snapshot_sorted_by_hour() -> None:
    snapshot = parse_snapshot(response(*reversed(list(day()))), 7, 0)
    assert snapshot.is_success
    assert hours(snapshot) == list(range(24))
    assert records_of(snapshot)[0] == Record(START, 5, Decimal("1.5"))
    assert (snapshot.number, snapshot.status, snapshot.body, snapshot.requested_at) == (7, 200, b"{}", LATER)


def test_an_empty_response_is_a_success_without_an_hour_offset() -> None:
    snapshot = parse_snapshot(response(), 1, None)
    assert (snapshot.is_success, records_of(snapshot), snapshot.hour_offset_seconds) == (
        True,
        (),
        None,
    )


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
        (raw(START, seconds=-1), "dateTill before dateFrom"),
        (raw(START, seconds=3600), "spans more than one hour"),
        (raw(START, seconds="soon"), "dateTill is not a time"),
        (raw(START, seconds=None), "dateTill is missing"),
    ],
)
def test_a_bad_record_becomes_a_rejection_of_its_hour(bad: RawRecord, reason: str) -> None:
    snapshot = parse_snapshot(response(bad, raw(START + HOUR)), 1, 0)
    assert snapshot.rejections == (Rejection(reason, bad.raw, START),)
    assert (snapshot.outcome, snapshot.code, hours(snapshot)) == (Outcome.PARTIAL, "rejected_records", [1])
    assert snapshot.message == f"1 of 2 records rejected ({reason})"


@pytest.mark.parametrize(
    ("starts_at", "reason"),
    [
        (None, "dateFrom is missing"),
        ("today", "dateFrom is not a time"),
        (Decimal("0.5"), "dateFrom is not a time"),
        (-3600, "dateFrom is out of range"),
        (1_550_534_400_000, "dateFrom is out of range"),
    ],
)
def test_a_record_without_a_valid_hour_leaves_the_window_partial(starts_at: object, reason: str) -> None:
    bad = raw(starts_at)
    snapshot = parse_snapshot(response(bad, raw(START)), 1, 0)
    assert snapshot.rejections == (Rejection(reason, bad.raw, None),)
    assert snapshot.outcome is Outcome.PARTIAL


def test_a_response_with_only_rejections_fails_and_keeps_them() -> None:
    snapshot = parse_snapshot(response(raw(START, volume=-1), raw(START + HOUR, volume=-1)), 1, 0)
    assert (snapshot.outcome, snapshot.code, records_of(snapshot), len(snapshot.rejections)) == (
        Outcome.FAILED,
        "rejected_records",
        (),
        2,
    )


def test_a_rejection_does_not_matter_if_its_hour_has_a_good_record() -> None:
    snapshot = parse_snapshot(response(raw(START, volume=-1), raw(START)), 1, 0)
    assert (snapshot.outcome, snapshot.code, len(snapshot.rejections)) == (Outcome.SUCCESS, "", 1)


def test_of_two_records_of_one_hour_the_larger_wins_and_the_other_is_rejected() -> None:
    snapshot = parse_snapshot(response(raw(START, volume=6), raw(START, volume=5)), 1, 0)
    assert snapshot.is_success
    assert [record.volume for record in records_of(snapshot)] == [6]
    assert [rejection.hour_start for rejection in snapshot.rejections] == [START]


def test_strings_float_noise_and_refunds_are_accepted() -> None:
    record = RawRecord("1550534400", "1550537999.0", "1899", Decimal("-7.4959480000000003"), "")
    assert records_of(parse_snapshot(response(record), 1, 0)) == (Record(START, 1899, Decimal("-7.495948")),)


@pytest.mark.parametrize("seconds", [0, 1, 1799, 3599])
def test_a_record_of_an_unfinished_hour_belongs_to_that_hour(seconds: int) -> None:
    assert hours(parse_snapshot(response(raw(START, seconds=seconds)), 1, 0)) == [0]


# ---------------------------------------------------------------- hours outside the window


def test_records_outside_the_window_are_only_counted() -> None:
    snapshot = parse_snapshot(
        response(raw(START - HOUR), raw(START), raw(START + DAY), raw(START + DAY, volume=-1)), 1, 0
    )
    assert (snapshot.outcome, hours(snapshot), snapshot.out_of_window, snapshot.rejections) == (
        Outcome.SUCCESS,
        [0],
        3,
        (),
    )


def test_hours_after_the_time_of_the_request_are_left_out() -> None:
    snapshot = parse_snapshot(response(*day(), requested_at=START + 3 * HOUR), 1, 0)
    assert (hours(snapshot), snapshot.out_of_window) == ([0, 1, 2, 3], 20)


# ---------------------------------------------------------------- the hour offset


QUARTER = timedelta(minutes=15)


@pytest.mark.parametrize("hour_offset", [0, None])
def test_a_record_with_another_hour_offset_fails_the_snapshot(hour_offset: int | None) -> None:
    snapshot = parse_snapshot(response(raw(START), raw(START + HOUR + QUARTER)), 1, hour_offset)
    assert (snapshot.outcome, snapshot.code, records_of(snapshot)) == (Outcome.FAILED, "off_grid", ())
    assert "2019-02-19T01:15:00Z" in snapshot.message
    assert "00:00 past the hour" in snapshot.message


def test_rejections_are_part_of_a_response_with_a_record_with_another_hour_offset() -> None:
    snapshot = parse_snapshot(response(raw(START), raw(START + HOUR + QUARTER), raw(START, volume=-1)), 1, 0)
    assert (snapshot.code, len(snapshot.rejections)) == ("off_grid", 1)


def test_whole_hours_fail_for_an_account_with_an_hour_offset() -> None:
    snapshot = parse_snapshot(response(raw(START)), 1, -900)
    assert (snapshot.code, "45:00 past the hour" in snapshot.message) == ("off_grid", True)


@pytest.mark.parametrize("is_offset_known", [True, False])
@pytest.mark.parametrize(
    ("shift", "hour_offset"),
    [(-QUARTER, -900), (3 * QUARTER, 2700), (timedelta(0), 0), (timedelta(seconds=1 - 3600), 1 - 3600)],
)
def test_a_day_with_any_hour_offset_is_read_completely(
    shift: timedelta, hour_offset: int, is_offset_known: bool
) -> None:
    snapshot = parse_snapshot(response(*day(shift)), 1, hour_offset if is_offset_known else None)
    assert snapshot.is_success
    assert (len(records_of(snapshot)), snapshot.out_of_window) == (24, 0)
    assert snapshot.hour_offset_seconds == hour_offset


def test_the_hours_before_and_after_a_shifted_day_are_outside_the_window() -> None:
    snapshot = parse_snapshot(response(*day(-QUARTER - HOUR, 26)), 1, -900)
    assert (hours(snapshot)[0], hours(snapshot)[-1], snapshot.out_of_window) == (-0.25, 22.75, 2)


def test_with_missing_hours_the_first_hour_is_assumed_to_start_before_the_window() -> None:
    snapshot = parse_snapshot(response(raw(START + 5 * HOUR + QUARTER)), 1, None)
    assert (snapshot.hour_offset_seconds, hours(snapshot)) == (-2700, [5.25])


def test_hours_that_have_not_begun_do_not_set_the_offset() -> None:
    now = START + 12 * HOUR
    snapshot = parse_snapshot(response(*day(3 * QUARTER), requested_at=now), 1, None)
    assert hours(snapshot)[-1] == 11.75
    assert snapshot.hour_offset_seconds == -900
    again = parse_snapshot(response(*day(3 * QUARTER), requested_at=now), 1, -900)
    assert snapshot == again


def test_an_hour_of_the_previous_day_is_outside_and_does_not_set_the_offset() -> None:
    snapshot = parse_snapshot(response(raw(START - HOUR), raw(START)), 1, None)
    assert (snapshot.hour_offset_seconds, hours(snapshot), snapshot.out_of_window) == (0, [0], 1)


@pytest.mark.parametrize(("start", "hour_offset"), [(START, -900), (START - HOUR, -900)])
def test_the_vendors_example_starts_at_a_quarter_to_midnight(start: datetime, hour_offset: int) -> None:
    window = Window("default", TOTAL, date(2019, 2, 19), start, start + DAY)
    records = (
        RawRecord(1550533500, 1550537099, 1899, Decimal("7.495948"), ""),
        RawRecord(1550537100, 1550540699, 2217, Decimal("7.861741"), ""),
        RawRecord(1550612700, 1550616299, 2156, Decimal("7.827058"), ""),
    )
    snapshot = parse_snapshot(response(*records, window=window), 1, None)
    assert snapshot.is_success
    assert records_of(snapshot) == (
        Record(datetime(2019, 2, 18, 23, 45, tzinfo=UTC), 1899, Decimal("7.495948")),
        Record(datetime(2019, 2, 19, 0, 45, tzinfo=UTC), 2217, Decimal("7.861741")),
        Record(datetime(2019, 2, 19, 21, 45, tzinfo=UTC), 2156, Decimal("7.827058")),
    )
    assert snapshot.hour_offset_seconds == hour_offset
    assert parse_snapshot(response(*records, window=window), 1, hour_offset) == snapshot


def test_a_response_with_only_earlier_hours_fails_instead_of_meaning_no_spend() -> None:
    snapshot = parse_snapshot(response(*(raw(START - DAY + n * HOUR) for n in range(24))), 7, 0)
    assert (snapshot.outcome, snapshot.code) == (Outcome.FAILED, "other_hours")


@pytest.mark.parametrize(
    ("seconds_before", "outcome"), [(900, Outcome.SUCCESS), (3600, Outcome.FAILED), (4500, Outcome.FAILED)]
)
def test_an_hour_that_contains_the_requested_second_begins_a_response_whose_own_hours_are_idle(
    seconds_before: int, outcome: Outcome
) -> None:
    tail, offset = replace(WINDOW, start=START + 23 * HOUR), -seconds_before % 3600
    before = raw(tail.start - timedelta(seconds=seconds_before))
    snapshot = parse_snapshot(response(before, requested_at=START + 3 * DAY, window=tail), 7, offset)
    assert (snapshot.outcome, records_of(snapshot)) == (outcome, ())
    assert snapshot.out_of_window == (1 if outcome is Outcome.SUCCESS else 0)


def test_a_partial_day_with_only_later_hours_is_an_empty_success() -> None:
    tail = replace(WINDOW, start=START + 23 * HOUR)
    snapshot = parse_snapshot(
        response(*(raw(START + DAY + n * HOUR) for n in range(24)), requested_at=START + 3 * DAY, window=tail), 7, 0
    )
    assert (snapshot.outcome, records_of(snapshot), snapshot.out_of_window) == (Outcome.SUCCESS, (), 24)


def test_rejections_are_part_of_a_response_that_begins_before_its_window() -> None:
    earlier = Window("default", TOTAL, START.date(), START + 5 * HOUR, START + DAY)
    snapshot = parse_snapshot(response(raw(START), raw(START + 6 * HOUR, volume=-1), window=earlier), 1, 0)
    assert snapshot.outcome is Outcome.FAILED
    assert len(snapshot.rejections) == 1


def test_the_message_counts_the_rejected_records_among_all_of_the_response() -> None:
    records = (raw(START), raw(START + HOUR, volume=-1), raw(START - DAY), raw(START - 2 * DAY))
    assert parse_snapshot(response(*records), 1, 0).message.startswith("1 of 4 records rejected")
