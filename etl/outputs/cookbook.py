"""The cookbook: questions people ask, each with its SQL, in ``sql/cookbook/NAME.sql``.

A file is one select in the common SQL of DuckDB and PostgreSQL, to be pasted anywhere as it stands: "now" is the newest day
or hour held. Its leading comment says the grain of the answer first, then why it is asked this way.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from etl.errors import UsageError
from etl.warehouse.package_files import folder

PLACE = "cookbook/"
"""What a recipe's name follows in ``query @cookbook/NAME``."""


class SavedQuery(NamedTuple):
    """One file: ``grain`` is its first line, what a row of the answer is."""

    name: str
    grain: str
    sql: str


def load() -> list[SavedQuery]:
    """The recipes, in the order of their names."""
    return [_parse(file) for file in sorted((folder("sql") / "cookbook").glob("*.sql"))]


def _parse(file: Path) -> SavedQuery:
    sql = file.read_text("utf-8")
    return SavedQuery(file.stem, sql.partition("\n")[0].removeprefix("--").strip(), sql)


def find(name: str) -> SavedQuery:
    """The recipe of a name, with or without ``.sql``. Raises UsageError, with names that come close, when there is none."""
    recipes = {recipe.name: recipe for recipe in load()}
    found = recipes.get(name.removesuffix(".sql"))
    if found is None:
        close = [other for other in recipes if name and name in other] or get_close_matches(
            name, recipes, n=3, cutoff=0.5
        )
        meant = f"did you mean {' or '.join(close[:3])}? " if close else ""
        raise UsageError(f"the cookbook has no {name!r}", f"{meant}anticaptcha-etl query --list names them all")
    return found


def listing() -> str:
    """A line for each recipe: its name, and what a row of its answer is."""
    recipes = load()
    width = max(len(recipe.name) for recipe in recipes)
    return "".join(f"{recipe.name:<{width}}  {recipe.grain}\n" for recipe in recipes)
