"""Upserts: the same in both engines, each in its own SQL."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlalchemy as sa


class Upsert(NamedTuple):
    """Insert the rows of a select into a table of ``account_id = :a``, or update those whose key exists.

    ``key`` and ``values`` are columns of the table and of ``rows``, without ``account_id``; ``key`` is the rest of the
    primary key. A row is updated only if one of ``compared`` differs; without ``compared``, always. With ``returning``
    the statement returns ``is_new`` and these columns of the rows that it inserted or updated.
    """

    table: str
    rows: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    compared: tuple[str, ...] = ()
    returning: tuple[str, ...] = ()

    def sql(self, connection: "sa.Connection") -> str:
        """The statement for the engine of ``connection``."""
        return self._on_conflict() if connection.dialect.name == "postgresql" else self._merge()

    def _merge(self) -> str:
        """For DuckDB, where the large tables have no key that could conflict."""
        is_match = " and ".join(f"t.{column} = b.{column}" for column in self.key)
        return f"""
            merge into {self.table} as t
            using ({self.rows}) as b
               on t.account_id = :a and {is_match}
            when matched and ({self._is_changed("b")}) then update set {self._assignments("b")}
            when not matched then insert (account_id, {", ".join(self._columns)}) values (:a, {self._inserted})
            {self._returning("merge_action = 'INSERT'")}
        """

    def _on_conflict(self) -> str:
        """For PostgreSQL, because Citus refuses a MERGE whose rows do not come from one of its tables."""
        return f"""
            insert into {self.table} as t (account_id, {", ".join(self._columns)})
            select :a, {self._inserted} from ({self.rows}) as b
                on conflict (account_id, {", ".join(self.key)})
                do update set {self._assignments("excluded")}
             where {self._is_changed("excluded")}
            {self._returning("t.xmax = 0")}
        """

    @property
    def _columns(self) -> tuple[str, ...]:
        return self.key + self.values

    @property
    def _inserted(self) -> str:
        return ", ".join(f"b.{column}" for column in self._columns)

    def _assignments(self, source: str) -> str:
        return ", ".join(f"{column} = {source}.{column}" for column in self.values)

    def _is_changed(self, source: str) -> str:
        return " or ".join(f"t.{column} <> {source}.{column}" for column in self.compared) or "true"

    def _returning(self, is_new: str) -> str:
        return f"returning {is_new} as is_new, {', '.join(self.returning)}" if self.returning else ""
