"""Which final days are read again, and what that proves."""

from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.extract.planner import choose_spot_checks
from etl.outputs.spot_checks import SpotCheckSummary, highest_share

TODAY = date(2026, 11, 28)
FINAL = frozenset(TODAY - timedelta(days=age) for age in range(5, 405))


@given(st.sets(st.sampled_from(sorted(FINAL))), st.integers(0, 12), st.text())
def test_a_choice_has_as_many_final_days_as_it_can_and_is_the_same_for_the_same_seed(
    final: set[date], count: int, seed: str
) -> None:
    checks = choose_spot_checks(final, TODAY, count, seed)
    assert checks.days <= final
    assert len(checks.random) + len(checks.younger) == len(checks.days) == min(count, len(final))
    assert len(checks.random) >= len(checks.younger) or len(checks.random) == len(final)
    assert checks == choose_spot_checks(final, TODAY, count, seed)


def test_random_draws_give_every_final_day_the_same_chance_and_the_others_prefer_younger_days() -> None:
    runs = 8_000
    found = [choose_spot_checks(FINAL, TODAY, 2, f"run {number}") for number in range(runs)]
    ages = Counter((TODAY - day).days // 100 for checks in found for day in checks.random)
    expected = {bucket: sum((TODAY - day).days // 100 == bucket for day in FINAL) / 400 * runs for bucket in range(5)}
    assert {bucket: ages[bucket] for bucket in expected} == pytest.approx(expected, abs=4 * (runs / 4) ** 0.5)
    younger = [(TODAY - day).days for checks in found for day in checks.younger]
    weights = {age: 1 / age for age in range(5, 405)}
    share = sum(1 / age for age in weights if age < 30) / sum(weights.values())
    assert sum(age < 30 for age in younger) / runs == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("checked", "changed", "share"),
    [  # the one-sided 95 % limits of Clopper and Pearson, from published tables
        (1, 0, 0.95),
        (10, 0, 0.2589),
        (100, 0, 0.0295),
        (240, 0, 0.0124),
        (10, 1, 0.3942),
        (20, 2, 0.2826),
        (3, 3, 1.0),
    ],
)
def test_the_highest_share_is_the_limit_of_clopper_and_pearson(checked: int, changed: int, share: float) -> None:
    assert highest_share(checked, changed) == pytest.approx(share, abs=0.0001)


def test_the_sentence_never_promises_more_than_was_shown() -> None:
    checks = SpotCheckSummary(240, 0, date(2026, 9, 1), highest_share(240, 0))
    assert checks.sentence == (
        "240 final days read again at random since 2026-09-01, 0 changed: with 95 % confidence fewer than 1.3 % of final "
        "days differ from the API"
    )
