"""Saved queries: one file each in ``sql/cookbook``, in SQL that DuckDB and PostgreSQL both run.

"Now" in these queries is the newest stored day or hour. The first line of a file says what one row of the result is.
"""

from difflib import get_close_matches
from typing import NamedTuple

from etl.errors import UsageError
from etl.warehouse.package_files import folder

PREFIX = "cookbook/"
"""What comes before the name in ``query @cookbook/NAME``."""


class SavedQuery(NamedTuple):
    """``grain`` says what one row of the result is."""

    name: str
    grain: str
    sql: str


def load() -> list[SavedQuery]:
    """All saved queries, by name."""
    texts = {file.stem: file.read_text("utf-8") for file in (folder("sql") / "cookbook").glob("*.sql")}
    return [SavedQuery(name, sql.partition("\n")[0].removeprefix("-- "), sql) for name, sql in sorted(texts.items())]


def find(name: str) -> SavedQuery:
    """The query of this name, with or without ``.sql``. Raises UsageError that suggests similar names."""
    queries = {query.name: query for query in load()}
    if query := queries.get(name.removesuffix(".sql")):
        return query
    similar = [other for other in queries if name and name in other] or get_close_matches(name, queries, cutoff=0.5)
    suggestion = f"did you mean {' or '.join(similar[:3])}? " if similar else ""
    raise UsageError(f"the cookbook has no query {name!r}", f"{suggestion}anticaptcha-etl query --list shows all names")


def listing() -> str:
    """One line for each query: its name and what one row of the result is."""
    queries = load()
    width = max(len(query.name) for query in queries)
    return "".join(f"{query.name:<{width}}  {query.grain}\n" for query in queries)
