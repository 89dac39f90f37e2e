"""The hours of one day of a series as two integer columns. Sums, differences and comparisons are exact."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

HOURS_PER_DAY = 24


class HourValues(NamedTuple):
    """Number of tasks and nanodollars by hour of the day, in order of time; None for an hour without a value.

    Hour 0 is the first on the account's hour grid, normally 00:00 UTC.
    """

    volumes: tuple[int | None, ...]
    nanodollars: tuple[int | None, ...]

    @classmethod
    def of(cls, by_hour: Mapping[int, tuple[int, int]]) -> "HourValues":
        """From volume and nanodollars by hour of the day."""
        pairs = [by_hour.get(hour, (None, None)) for hour in range(HOURS_PER_DAY)]
        return cls(tuple(volume for volume, _ in pairs), tuple(nanodollars for _, nanodollars in pairs))

    @property
    def hours(self) -> list[int]:
        """The hours that have a value."""
        return [hour for hour, volume in enumerate(self.volumes) if volume is not None]

    @property
    def is_complete(self) -> bool:
        return None not in self.volumes

    @property
    def is_empty(self) -> bool:
        return self.volumes == NO_VALUES.volumes

    @property
    def has_spend(self) -> bool:
        return any(self.volumes) or any(self.nanodollars)

    @property
    def total(self) -> tuple[int, int]:
        """Sum of the volumes, sum of the nanodollars."""
        return sum(filter(None, self.volumes)), sum(filter(None, self.nanodollars))

    def at(self, hour: int) -> tuple[int, int]:
        """Volume and nanodollars of an hour; zeros without a value."""
        return self.volumes[hour] or 0, self.nanodollars[hour] or 0

    @property
    def spent(self) -> list[tuple[int, int, int]]:
        """The hours with spend, to compare: another hour without spend is no change."""
        return list(self.with_spend())

    def with_spend(self) -> Iterator[tuple[int, int, int]]:
        """Hour, volume and nanodollars of the hours with spend."""
        for hour, (volume, nanodollars) in enumerate(zip(self.volumes, self.nanodollars, strict=True)):
            if volume or nanodollars:
                yield hour, volume or 0, nanodollars or 0


NO_VALUES = HourValues((None,) * HOURS_PER_DAY, (None,) * HOURS_PER_DAY)


class FactValues(NamedTuple):
    """The facts of one series on one day by hour: volume, nanodollars and snapshot number; None: no fact."""

    volumes: tuple[int | None, ...]
    nanodollars: tuple[int | None, ...]
    snapshots: tuple[int | None, ...]

    @classmethod
    def of(cls, hours: Sequence[int], *columns: Sequence[int]) -> "FactValues":
        """From columns with the values of some hours."""
        if (*hours,) != _ALL_HOURS:
            by_hour = dict(zip(hours, zip(*columns, strict=True), strict=True))
            columns = (*zip(*(by_hour.get(hour, (None, None, None)) for hour in _ALL_HOURS), strict=True),)
        return cls(*map(tuple, columns))


_ALL_HOURS = (*range(HOURS_PER_DAY),)
NO_FACTS = FactValues(*NO_VALUES, NO_VALUES.volumes)
