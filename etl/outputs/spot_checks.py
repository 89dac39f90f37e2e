"""What the spot checks of final days show about all of them."""

import math
from dataclasses import dataclass
from datetime import date

from etl.warehouse.reading import Reader

_RANDOM_CHECKS = """
    select count(*) as checked, count(case when v.is_changed then 1 end) as changed,
           cast(min(v.checked_at) as date) as since
      from internal.day_checks as v
     where v.account_id = :a and v.is_random and v.checked_at is not null
"""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class SpotCheckSummary:
    """Final days that were drawn with equal chances and read again, since a UTC day.

    ``at_most``: with 95 % confidence a smaller share of all final days, from 0 to 1, differs from the API.
    """

    checked: int
    changed: int
    since: date
    at_most: float

    @property
    def sentence(self) -> str:
        """What the spot checks prove."""
        days = f"{self.checked:,} final day{'' if self.checked == 1 else 's'}"
        share = math.ceil(self.at_most * 1000) / 10
        proven = f"with 95 % confidence fewer than {share:.1f} % of final days differ from the API"
        return f"{days} read again at random since {self.since}, {self.changed:,} changed: {proven}"


def load_spot_checks(reader: Reader, account_id: int) -> SpotCheckSummary | None:
    """What the random spot checks of an account have shown; None without any."""
    [(checked, changed, since)] = reader.rows(_RANDOM_CHECKS, a=account_id)
    return SpotCheckSummary(checked, changed, since, highest_share(checked, changed)) if checked else None


def highest_share(checked: int, changed: int, confidence: float = CONFIDENCE) -> float:
    """The largest share of changed days, from 0 to 1, with which a sample like this one is not yet unlikely.

    This is the upper end of the one-sided interval of Clopper and Pearson: with a larger share, ``changed`` or fewer of
    ``checked`` days would be found changed with a probability below ``1 - confidence``. A day drawn twice counts twice.
    """
    if changed >= checked:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if _at_most(changed, checked, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(changed: int, checked: int, share: float) -> float:
    """The probability of at most ``changed`` changed days among ``checked``, if each has changed with ``share``."""
    if share in (0.0, 1.0):
        return 1.0 - share
    logs = (
        math.lgamma(checked + 1) - math.lgamma(n + 1) - math.lgamma(checked - n + 1)
        + n * math.log(share) + (checked - n) * math.log1p(-share)
        for n in range(changed + 1)
    )  # fmt: skip
    return math.fsum(map(math.exp, logs))
