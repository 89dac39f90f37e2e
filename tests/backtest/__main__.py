"""``python -m tests.backtest``: false alarms, and the share of incidents found in time, over account-years."""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from etl.outputs.alerts.habits import WEEKS, find_anomalies, find_price_jump
from tests.backtest.accounts import INCIDENTS, TEMPERAMENTS, WARM_UP, WEEK, account_year

FLOOR = 300_000_000
PRICE_PERCENT = 10
NEEDED = (WEEKS + 1) * WEEK + 48
QUIET_HOURS = 48
"""An event goes on while its hours are this close to each other."""


AFTERMATH = defaultdict(lambda: QUIET_HOURS, {"price jump": 4 * WEEK})
"""Hours after an incident in which alarms are its own: the way back from a higher price is a jump, too."""


class Outcome(NamedTuple):
    """``found``: by kind of incident, the hours until each was found; None if it was not."""

    temperament: str
    false_alarms: int
    found: dict[str, list[int | None]]


def evaluate(temperament: str, seed: str, per_year: int = 6) -> Outcome:
    account = account_year(temperament, seed, per_year=per_year)
    money = [round(one * 10**9) for one in account.money]
    volumes = [int(one) for one in account.volumes]
    alarms = [hour for hour in range(WARM_UP, len(money)) if _is_alarm(money, volumes, hour)]
    false_alarms, last = 0, -QUIET_HOURS
    for hour in alarms:
        if any(one.first <= hour < one.first + one.hours + AFTERMATH[one.kind] for one in account.incidents):
            continue
        false_alarms += hour - last > QUIET_HOURS
        last = hour
    found: dict[str, list[int | None]] = defaultdict(list)
    for incident in account.incidents:
        hours = (
            hour - incident.first + 1 for hour in alarms if incident.first <= hour < incident.first + incident.hours
        )
        found[incident.kind].append(next(hours, None))
    return Outcome(temperament, false_alarms, dict(found))


def _is_alarm(money: list[int], volumes: list[int], hour: int) -> bool:
    """Whether the hour would be reported right after its end."""
    known = slice(max(0, hour + 1 - NEEDED), hour + 1)
    if find_anomalies(money[known], 1, FLOOR):
        return True
    return find_price_jump(money[known], volumes[known], 1, PRICE_PERCENT) is not None


def run(years: int, seed: str) -> Iterator[Outcome]:
    """``years`` account-years of each temperament."""
    jobs = [(temperament, f"{seed}-{number}") for temperament in TEMPERAMENTS for number in range(years)]
    with ProcessPoolExecutor() as pool:
        yield from pool.map(evaluate, *zip(*jobs, strict=True))


def table(outcomes: list[Outcome]) -> str:
    lines = [
        "| Temperament | Account-years | False alarms a year | Incidents | Found in 1 h | 3 h | 24 h |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in (*TEMPERAMENTS, "all"):
        chosen = [one for one in outcomes if name in ("all", one.temperament)]
        found = [hours for one in chosen for all_hours in one.found.values() for hours in all_hours]
        false_alarms = sum(one.false_alarms for one in chosen) / len(chosen)
        lines.append(f"| {name} | {len(chosen)} | {false_alarms:.1f} | {len(found)} | {_shares(found)} |")
    lines += ["", "| Incident | Incidents | Found in 1 h | 3 h | 24 h |", "| --- | ---: | ---: | ---: | ---: |"]
    for kind in INCIDENTS:
        found = [hours for one in outcomes for hours in one.found.get(kind, [])]
        lines.append(f"| {kind} | {len(found)} | {_shares(found)} |")
    return "\n".join(lines)


def _shares(found: list[int | None]) -> str:
    return " | ".join(
        f"{sum(hours is not None and hours <= limit for hours in found) / max(1, len(found)):.0%}"
        for limit in (1, 3, 24)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=10, help="account-years of each temperament")
    parser.add_argument("--seed", default="backtest")
    options = parser.parse_args()
    print(table(list(run(options.years, options.seed))))


if __name__ == "__main__":
    main()
