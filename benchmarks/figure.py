"""A measured number, and a table of them. Most are ratios to a floor measured in the same minute."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """``cost`` in ``unit`` (empty: a multiple of ``floor``). ``target``: its limit; None: for information only.

    ``more_is_better``: the target is a lower limit. ``sizes``: costs at several sizes, in the unit that ``of`` names,
    to show how the cost grows. ``remark``: what else was found.
    """

    name: str
    cost: float
    target: float | None
    unit: str = ""
    floor: str = ""
    of: str = ""
    sizes: Mapping[int, float] = {}
    remark: str = ""
    more_is_better: bool = False

    @property
    def holds(self) -> bool:
        if self.target is None:
            return True
        return self.cost >= self.target if self.more_is_better else self.cost <= self.target

    @property
    def exponent(self) -> float | None:
        """The power of the size with which cost grows (least squares over logarithms); None below two sizes."""
        points = [(math.log(size), math.log(cost)) for size, cost in self.sizes.items() if cost > 0]
        if len(points) < 2:
            return None
        mean_x, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
        spread = sum((x - mean_x) * (x - mean_x) for x, _ in points)
        return float(sum((x - mean_x) * (y - mean_y) for x, y in points) / spread)

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "sizes": {str(size): cost for size, cost in self.sizes.items()}}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Figure":
        return cls(**{**fields, "sizes": {int(size): cost for size, cost in fields["sizes"].items()}})


def table(figures: Iterable[Figure]) -> str:
    """Format as a Markdown table."""
    return markdown([("figure", "measured", "target", "floor", "at sizes", "exponent", "remark"), *map(_row, figures)])


def markdown(rows: Iterable[tuple[str, ...]]) -> str:
    """Format rows, the first of them the heading, as a Markdown table."""
    rows = [*rows]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])


def _row(figure: Figure) -> tuple[str, ...]:
    unit = f" {figure.unit}" if figure.unit else ""
    least = "at least" if figure.more_is_better else "at most"
    target = "" if figure.target is None else f"{least} {figure.target:g}{unit}"
    sizes = ", ".join(f"{size:,}: {cost:.3g}" for size, cost in figure.sizes.items())
    exponent = "" if figure.exponent is None else f"{figure.exponent:.2f}"
    missed = "" if figure.holds else " (missed)"
    return (
        figure.name,
        f"{figure.cost:.3g}{unit}{missed}",
        target,
        figure.floor,
        f"{sizes} {figure.of}".strip(),
        exponent,
        figure.remark,
    )
