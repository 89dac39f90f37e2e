"""The synthetic spending is a pure function of the seed, and its parts always add up to the total."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.sandbox.dataset import DAY, HOUR, QUEUE_NAMES, Dataset

MONDAY = 20_000 // 7 * 7 + 4  # counted from 1970-01-01, a Thursday
CORRECTED = Dataset(queues=5, corrections=True, places=9)

days = st.integers(19_400, 21_000)
seconds = st.integers(-DAY, 10 * DAY)


Hours = tuple[tuple[int, Decimal], ...]
NO_SPEND = (0, Decimal(0))


def added(parts: list[Hours]) -> Hours:
    return tuple(
        (sum(volume for volume, _ in hour), sum((money for _, money in hour), Decimal(0)))
        for hour in zip(*parts, strict=True)
    )


@settings(max_examples=40, deadline=None)
@given(days, seconds)
def test_queues_sum_to_the_total_at_any_moment(day: int, second: int) -> None:
    as_of = day * DAY + second
    assert added([CORRECTED.day(day, as_of, name) for name in CORRECTED.names]) == CORRECTED.day(day, as_of)


@settings(max_examples=40, deadline=None)
@given(days, seconds, st.sampled_from([0, 10, 100]))
def test_apps_and_ips_add_up_to_the_total_if_all_are_listed(day: int, second: int, unlisted: int) -> None:
    dataset = Dataset(queues=3, corrections=True, unlisted=unlisted)
    as_of = day * DAY + second
    apps = added([dataset.day(day, as_of, soft_id=app) for app in dataset.apps])
    ips = added([dataset.day(day, as_of, ip=ip) for ip in dataset.ips])
    for parts in (apps, ips):
        for (volume, money), (total_volume, total_money) in zip(parts, dataset.day(day, as_of), strict=True):
            assert 0 <= volume <= total_volume
            assert 0 <= money <= total_money
        if unlisted == 0:
            assert parts == dataset.day(day, as_of)
        if unlisted == 100:
            assert not any(volume for volume, _ in parts)


@settings(max_examples=60, deadline=None)
@given(days, st.integers(0, 23), st.integers(0, HOUR), st.integers(0, HOUR))
def test_running_hour_only_grows(day: int, hour: int, one: int, other: int) -> None:
    begins = day * DAY + hour * HOUR
    earlier, later = sorted((one, other))
    values = [CORRECTED.day(day, begins + second)[hour] for second in (0, earlier, later, HOUR)]
    assert values[0] == NO_SPEND
    assert [volume for volume, _ in values] == sorted(volume for volume, _ in values)
    assert [money for _, money in values] == sorted(money for _, money in values)


def test_half_of_a_running_hour_is_reported_at_its_middle() -> None:
    dataset = Dataset.always_active()
    volume, money = dataset.day(MONDAY, (MONDAY * DAY) + 12 * HOUR, dataset.names[0])[11]
    half_volume, half_money = dataset.day(MONDAY, MONDAY * DAY + 11 * HOUR + HOUR // 2, dataset.names[0])[11]
    assert volume > 100
    assert half_volume == volume // 2
    assert abs(half_money - money / 2) < money / volume


def test_three_percent_of_hours_are_corrected_and_settle_within_a_week() -> None:
    dataset = Dataset.always_active(queues=1, corrections=True)
    corrected, delays = 0, set()
    for day in range(MONDAY, MONDAY + 100):
        final = dataset.day(day, (day + 9) * DAY)
        for hour in range(24):
            ends = day * DAY + (hour + 1) * HOUR
            seen = [dataset.day(day, ends + delay)[hour] for delay in (0, HOUR, DAY, 7 * DAY)]
            assert seen[-1] == final[hour]
            if seen[0] != final[hour]:
                corrected += 1
                delays.add(seen.index(final[hour]))
                assert abs(seen[0][0] - final[hour][0]) <= max(1, final[hour][0] * 8 // 100)
                assert seen[0][0] != final[hour][0]
                assert seen[0][1] != final[hour][1]
    assert 0.02 < corrected / 2400 < 0.04
    assert delays == {1, 2, 3}


def test_closed_hours_do_not_change_without_corrections() -> None:
    dataset = Dataset.always_active(queues=2)
    assert dataset.day(MONDAY, (MONDAY + 1) * DAY) == dataset.day(MONDAY, (MONDAY + 30) * DAY)


def test_rows_do_not_depend_on_the_process_or_hash_seed() -> None:
    program = (
        "from etl.sandbox.dataset import Dataset; from datetime import *;"
        "as_of = datetime(2024, 3, 2, 7, 31, tzinfo=UTC);"
        "print(list(Dataset(corrections=True).expected_rows(date(2024, 3, 1), date(2024, 3, 2), as_of)))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 1000


def test_values_of_one_hour_are_fixed() -> None:
    """Other tests and docs contain numbers from this generator."""
    hour = datetime(2025, 6, 2, 12, tzinfo=UTC)
    dataset = Dataset.always_active(queues=("English ImageToText", "FunCaptcha"))
    assert dataset.hour(hour, "English ImageToText") == (1669, Decimal("1.111189"))
    assert dataset.hour(hour) == (3658, Decimal("4.904202"))


def test_expected_rows_have_every_hour_with_spend_once() -> None:
    as_of = datetime(2025, 6, 3, 7, 30, tzinfo=UTC)
    dataset = Dataset()
    expected_rows = list(dataset.expected_rows(date(2025, 6, 2), date(2025, 6, 3), as_of))
    assert len({(queue, hour) for queue, hour, _, _ in expected_rows}) == len(expected_rows) > 30
    assert all(volume > 0 and money > 0 for _, _, volume, money in expected_rows)
    assert max(hour for _, hour, _, _ in expected_rows) == datetime(2025, 6, 3, 7, tzinfo=UTC)
    noon = datetime(2025, 6, 2, 12, tzinfo=UTC)
    at_noon = [(volume, money) for _, hour, volume, money in expected_rows if hour == noon]
    assert (sum(volume for volume, _ in at_noon), sum(money for _, money in at_noon)) == dataset.hour(noon)


def test_no_spend_before_the_first_day() -> None:
    dataset = Dataset.always_active(begins=date(2025, 6, 2), queues=2)
    assert dataset.hour(datetime(2025, 6, 1, 23, tzinfo=UTC)) == NO_SPEND
    assert dataset.hour(datetime(2025, 6, 2, 0, tzinfo=UTC))[0] > 0


def test_dataset_without_idle_hours_spends_in_every_hour_of_every_queue() -> None:
    dataset = Dataset.always_active(queues=4)
    expected_rows = list(dataset.expected_rows(date(2024, 2, 1), date(2024, 2, 29), datetime(2025, 1, 1, tzinfo=UTC)))
    assert len(expected_rows) == 4 * 29 * 24


@pytest.mark.parametrize(("queues", "length", "at_once"), [(10, 5, 3), (7, 9, 2), (40, 20, 12)])
def test_active_periods_have_the_given_length_and_number_of_queues(queues: int, length: int, at_once: int) -> None:
    dataset = Dataset(queues=queues, active_periods=(length, at_once), idle_weeks=0, turnover=False)
    span = range(MONDAY, MONDAY + 4 * length * queues)
    assert {sum(dataset.is_active(name, day) for name in dataset.names) for day in span} == {at_once}
    for name in dataset.names:
        runs = "".join("#" if dataset.is_active(name, day) else " " for day in span).split()
        assert {len(run) for run in runs[1:-1]} == {length}


def test_no_spend_in_pauses_idle_weeks_and_outside_lives() -> None:
    dataset = Dataset(
        queues=("FunCaptcha", "Square Net Task"),
        idle=((date(2024, 5, 1), date(2024, 8, 31)),),
        lives=(
            ("Square Net Task", date(2023, 2, 1), date(2023, 2, 10)),
            ("Square Net Task", date(2024, 9, 5), date(2024, 9, 6)),
        ),
        idle_weeks=20,
    )
    expected_rows = list(dataset.expected_rows(date(2023, 1, 1), date(2024, 12, 31), datetime(2025, 1, 9, tzinfo=UTC)))
    assert not [hour for _, hour, _, _ in expected_rows if date(2024, 5, 1) <= hour.date() <= date(2024, 8, 31)]
    active_days = {hour.date() for queue, hour, _, _ in expected_rows if queue == "Square Net Task"}
    assert active_days <= {date(2023, 2, 1) + timedelta(n) for n in range(10)} | {date(2024, 9, 5), date(2024, 9, 6)}
    assert active_days
    active_weeks = {(hour.date() - timedelta(hour.weekday())) for _, hour, _, _ in expected_rows}
    mondays = {date(2023, 1, 2) + timedelta(7 * week) for week in range(104)}
    assert 17 + 5 < len(mondays - active_weeks) < 17 + 35


def test_volume_varies_by_weekday_hour_and_year() -> None:
    dataset = Dataset.always_active(queues=1, begins=date(2020, 1, 1))
    first, last = (
        [dataset.day(day, (day + 9) * DAY) for day in range(start, start + 70)] for start in (MONDAY - 7 * 200, MONDAY)
    )
    weekdays = [sum(volume for volume, _ in hours) for place, hours in enumerate(last) if place % 7 < 5]
    weekends = [sum(volume for volume, _ in hours) for place, hours in enumerate(last) if place % 7 >= 5]
    assert sum(weekends) / len(weekends) < 0.9 * sum(weekdays) / len(weekdays)
    assert sum(hours[3][0] for hours in last) < 0.5 * sum(hours[14][0] for hours in last)
    assert sum(v for hours in last for v, _ in hours) > 1.2 * sum(v for hours in first for v, _ in hours)


def test_prices_stay_between_50_cents_and_3_dollars_and_change_in_steps() -> None:
    dataset = Dataset(queues=30)
    for name in dataset.names:
        prices = [dataset.price(name, day) for day in range(19_400, 21_000)]
        assert 5_000 <= min(prices) <= max(prices) <= 30_000
        assert 0 < sum(one != other for one, other in pairwise(prices)) <= 14


@pytest.mark.parametrize("places", [6, 9])
def test_money_has_the_given_decimal_places(places: int) -> None:
    dataset = Dataset(queues=1, idle_hours=0, idle_weeks=0, turnover=False, places=places)
    exponents = {money.as_tuple().exponent for _, money in dataset.day(MONDAY, (MONDAY + 9) * DAY)}
    assert exponents == {-places}


def test_known_queue_names_come_before_custom_ones() -> None:
    assert Dataset(queues=2).names == ("English ImageToText", "Russian ImageToText")
    assert Dataset(queues=18).names == (*QUEUE_NAMES, "Custom Queue 17", "Custom Queue 18")
    assert Dataset(queues=("one", "two")).names == ("one", "two")


def test_unknown_members_have_no_spend() -> None:
    as_of = (MONDAY + 9) * DAY
    nothing = (NO_SPEND,) * 24
    dataset = Dataset.always_active()
    assert dataset.day(MONDAY, as_of, "no such queue") == nothing
    assert dataset.day(MONDAY, as_of, soft_id=1) == nothing
    assert dataset.day(MONDAY, as_of, ip="203.0.113.1") == nothing
