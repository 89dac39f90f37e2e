"""Saved queries: one file each in ``sql/cookbook``, in SQL that DuckDB and PostgreSQL both run.

"Now" in these queries is the newest stored day or hour. The first line of a file says what one row of the result is.
"""

import re
from difflib import get_close_matches
from typing import NamedTuple

from etl.errors import UsageError
from etl.warehouse.duckdb import quoted
from etl.warehouse.package_files import folder

PREFIX = "cookbook/"
"""What comes before the name in ``query @cookbook/NAME``."""


_DAILY = re.compile(r"(?<=\b(?:from|join) )spending_daily\b")


class SavedQuery(NamedTuple):
    """``grain`` says what one row of the result is."""

    name: str
    grain: str
    sql: str

    def sql_in(self, zone: str) -> str:
        """The query with days of a time zone, if it reads spending_daily or says which zone it uses."""
        if zone == "UTC":
            return self.sql
        named = self.sql.replace("(select 'UTC' as name)", f"(select {quoted(zone)} as name)")
        return _DAILY.sub(lambda found: f"{found[0]}_in({quoted(zone)})", named)


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
