"""The promises of docs/explanation/alerts.md, over a few account-years."""

import pytest

from tests.backtest.__main__ import evaluate


@pytest.mark.parametrize("temperament", ["weekly", "seasonal"])
def test_accounts_with_a_habit_have_no_false_alarm_and_their_incidents_are_found_in_three_hours(
    temperament: str,
) -> None:
    outcome = evaluate(temperament, "in CI")
    assert outcome.false_alarms == 0
    found = [hours for all_hours in outcome.found.values() for hours in all_hours]
    assert len(found) == 6
    assert [hours for hours in found if hours is None or hours > 3] == []


def test_a_year_without_incidents_of_a_bursty_account_has_few_alarms() -> None:
    outcome = evaluate("bursty", "in CI", per_year=0)
    assert (outcome.found, outcome.false_alarms <= 6) == ({}, True)
