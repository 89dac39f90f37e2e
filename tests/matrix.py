"""A table of scenarios: each row is printed in the documentation and runs as a test."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

Stage = TypeVar("Stage")
"""What a scenario runs in."""

Scenario = Callable[[Stage], int]
"""Runs the scenario and returns the exit code of the command under test."""


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the table as Markdown, without a final newline."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Row(NamedTuple, Generic[Stage]):
    """One line of the table and the scenario that proves it."""

    what: str
    does: str
    code: int
    stored: str
    run: Scenario[Stage]

    @property
    def cells(self) -> tuple[str, ...]:
        return self.what, self.does, str(self.code), self.stored


@dataclass(slots=True)
class Matrix(Generic[Stage]):
    """The rows of one table by the names of their scenarios. ``what`` and ``does`` are the titles of its first two
    columns."""

    what: str
    does: str
    rows: dict[str, Row[Stage]] = field(default_factory=dict)

    def row(self, what: str, *, does: str, code: int, stored: str) -> Callable[[Scenario[Stage]], Scenario[Stage]]:
        """Add the decorated scenario as a row, under its name without outer underscores."""

        def add(scenario: Scenario[Stage]) -> Scenario[Stage]:
            self.rows[scenario.__name__.strip("_")] = Row(what, does, code, stored, scenario)
            return scenario

        return add

    def table(self) -> str:
        titles = (self.what, self.does, "Exit code", "What is stored afterwards")
        return markdown(titles, [row.cells for row in self.rows.values()])
