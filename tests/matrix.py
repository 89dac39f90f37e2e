"""A table whose every row is a test, as the README prints it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

Stage = TypeVar("Stage")
"""What an act is given to play in."""

Act = Callable[[Stage], int]
"""Lets it happen, and gives the exit code of the command that meets it."""


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The table, a line a row, without a line's end behind it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Row(NamedTuple, Generic[Stage]):
    """One line of the table, and the act that shows it."""

    what: str
    does: str
    code: int
    held: str
    act: Act[Stage]

    @property
    def told(self) -> tuple[str, ...]:
        return self.what, self.does, str(self.code), self.held


@dataclass(slots=True)
class Matrix(Generic[Stage]):
    """The rows of one table by the names of their acts. ``what`` and ``does`` are the heads of its first two
    columns."""

    what: str
    does: str
    rows: dict[str, Row[Stage]] = field(default_factory=dict)

    def row(self, what: str, *, does: str, code: int, held: str) -> Callable[[Act[Stage]], Act[Stage]]:
        """Adds the decorated act as a row, under its name without the underscores around it."""

        def add(act: Act[Stage]) -> Act[Stage]:
            self.rows[act.__name__.strip("_")] = Row(what, does, code, held, act)
            return act

        return add

    def table(self) -> str:
        heads = (self.what, self.does, "Exit code", "What is held afterwards")
        return markdown(heads, [row.told for row in self.rows.values()])
