"""Move the tables to the schema ``internal`` and rename tables, columns and stored words.

PostgreSQL moves and renames its tables at once and updates the rows with changed words. DuckDB cannot move a table:
each is created, filled and dropped, in one transaction, so that a kill at any moment leaves the warehouse as it was.
Measured with 10 million facts and 555,300 snapshots on 2 busy cores: DuckDB 2.7 s, and the file grew from 176 to
335 MB, half of which the next commits reuse; so the disk needs as much free space as the file. PostgreSQL 10 s, and
the database grew from 1.58 to 1.69 GB.

``migrations/env.py`` moves ``alembic_version`` before and after this step. Down, the data is the same as before; the
comments of the tables stay those of this step.

A reader role on PostgreSQL needs two grants, and nothing on ``internal``, because a view reads with the rights of its
owner:

    grant usage on schema public to analyst;
    grant select on all tables in schema public to analyst;

An upgrade creates the views again, so let the owner grant future ones too:

    alter default privileges in schema public grant select on tables to analyst;

``spending_as_of`` also reads with the rights of its owner and is therefore not granted to everyone:

    grant execute on function spending_as_of(timestamp) to analyst;
"""

from typing import TypeVar

import sqlalchemy as sa
from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
)

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MONEY = Numeric(18, 9)

metadata = MetaData(schema="internal", naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s"})

_Item = TypeVar("_Item", PrimaryKeyConstraint, Index)


def postgresql_only(item: _Item) -> _Item:
    return item.ddl_if(dialect="postgresql")


accounts = Table(
    "accounts",
    metadata,
    Column("account_id", Integer, autoincrement=False, nullable=False),
    Column("name", Text, nullable=False),
    Column("key_salt", LargeBinary, nullable=False),
    Column(
        "key_hash",
        LargeBinary,
        nullable=False,
        comment="scrypt hash of the client key; tells a rotated key from the key of another account",
    ),
    Column("since", Date, comment="first day to load, from --since; null: found by --empty-days"),
    Column(
        "hour_offset_seconds",
        Integer,
        comment="seconds past the full hour at which the account's hours begin; usually 0",
    ),
    Column("created_at", DateTime, nullable=False),
    Column(
        "full_day_from_snapshot",
        Integer,
        comment="first snapshot of a total that had a record for the last hour of its day; null: none yet",
    ),
    Column(
        "raw_kept_from",
        Date,
        comment="responses of final days before this day may have been deleted; null: all are kept",
    ),
    PrimaryKeyConstraint("account_id"),
    comment="One row per account.",
)

series = Table(
    "series",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("series_id", Integer, nullable=False),
    Column("dimension", Text, nullable=False, comment="total, queue, app or ip: each is a breakdown of the same money"),
    Column(
        "member",
        Text,
        comment="queue name, softId or IP address; null: the total, or what is unattributed in the dimension",
    ),
    PrimaryKeyConstraint("account_id", "series_id"),
    comment="One row per account, dimension and member.",
)

member_statuses = Table(
    "member_statuses",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("dimension", Text, nullable=False, comment="queue, app or ip"),
    Column("member", Text, nullable=False, comment="queue name, softId or IP address"),
    Column("status", Text, nullable=False, comment="verified, unverified, excluded or retired"),
    Column("snapshot_id", Integer, comment="snapshot that decided the status; null: the user did (trusted_queues)"),
    Column("valid_from", DateTime, nullable=False),
    postgresql_only(Index(None, "account_id", "valid_from")),
    comment="Append-only. One row per change of a member's status; the latest row of a member applies.",
)

unknown_name_behaviours = Table(
    "unknown_name_behaviours",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("dimension", Text, nullable=False, comment="queue, app or ip"),
    Column("behaviour", Text, nullable=False, comment="error, zeros or totals"),
    Column("code", Text, comment="errorCode of the response, if it is an error"),
    Column("valid_from", DateTime, nullable=False),
    postgresql_only(Index(None, "account_id", "valid_from")),
    comment="Append-only. What the API returns for a name that does not exist; the latest row of a dimension applies.",
)

runs = Table(
    "runs",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("run", Integer, nullable=False),
    Column("command", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", DateTime, nullable=False),
    Column("ended_at", DateTime, comment="null: still running, or killed"),
    Column("exit_code", Integer),
    Column("requests", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("windows_good", Integer, nullable=False),
    Column("windows_failed", Integer, nullable=False),
    Column("windows_left", Integer, nullable=False),
    Column("facts_inserted", Integer, nullable=False),
    Column("facts_changed", Integer, nullable=False),
    Column("rejections", Integer, nullable=False),
    Column("out_of_window", Integer, nullable=False, comment="records outside their window; not loaded"),
    Column(
        "facts_unchanged", Integer, comment="facts read again without a change; null: an old version did not count them"
    ),
    PrimaryKeyConstraint("account_id", "run"),
    comment="One row per run of sync or replay and account.",
)

responses = Table(
    "responses",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("hash", Text, nullable=False, comment="SHA-256 of the body, in hex"),
    Column("body", LargeBinary, nullable=False, comment="the body as received, compressed with zlib"),
    postgresql_only(PrimaryKeyConstraint("account_id", "hash")),
    comment="One row per account and distinct response body.",
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("snapshot_id", Integer, nullable=False),
    Column("run", Integer, nullable=False),
    Column("series_id", Integer, nullable=False),
    Column("day", Date, nullable=False),
    Column("window_start", DateTime, nullable=False, comment="sent to the API as date"),
    Column("window_end", DateTime, nullable=False, comment="exclusive"),
    Column("requested_at", DateTime, nullable=False, comment="when the request began"),
    Column("committed_at", DateTime, nullable=False),
    Column("outcome", Text, nullable=False, comment="success, partial, api_error or failed"),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("status", Integer, comment="HTTP status; null: no response"),
    Column("hash", Text, comment="hash of the response body; null: no response"),
    postgresql_only(PrimaryKeyConstraint("account_id", "snapshot_id")),
    postgresql_only(Index(None, "account_id", "day")),
    comment="Append-only. One row per completed window; the latest successful snapshot of a window applies.",
)

facts = Table(
    "facts",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("series_id", Integer, nullable=False),
    Column("day", Date, nullable=False, comment="UTC day that the hour counts towards"),
    Column("hour_start", DateTime, nullable=False),
    Column("volume", BigInteger, nullable=False),
    Column("money", MONEY, nullable=False),
    Column("snapshot_id", Integer, nullable=False, comment="first snapshot with this value"),
    Column("loaded_at", DateTime, nullable=False, comment="commit time of this value"),
    postgresql_only(PrimaryKeyConstraint("account_id", "series_id", "hour_start")),
    postgresql_only(Index(None, "account_id", "day")),
    comment="One row per account, series and hour: the current value.",
)

over_allocated_hours = Table(
    "over_allocated_hours",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("series_id", Integer, nullable=False, comment="the unattributed series of the dimension"),
    Column("day", Date, nullable=False, comment="UTC day that the hour counts towards"),
    Column("hour_start", DateTime, nullable=False),
    Column("volume", BigInteger, nullable=False, comment="sum over the verified members"),
    Column("money", MONEY, nullable=False, comment="sum over the verified members"),
    Column("snapshot_id", Integer, nullable=False, comment="latest of the members' snapshots"),
    postgresql_only(PrimaryKeyConstraint("account_id", "series_id", "hour_start")),
    comment="One row per account, dimension and hour whose members add up to more than the total; its breakdown "
    "is not used.",
)

revisions = Table(
    "revisions",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("series_id", Integer, nullable=False),
    Column("day", Date, nullable=False),
    Column("hour_start", DateTime, nullable=False),
    Column("volume_before", BigInteger, nullable=False),
    Column("money_before", MONEY, nullable=False),
    Column("volume_after", BigInteger, nullable=False),
    Column("money_after", MONEY, nullable=False),
    Column("cause", Text, nullable=False, comment="correction, late_arriving or attribution"),
    Column("snapshot_id", Integer, nullable=False, comment="snapshot with the new value"),
    Column("loaded_before", DateTime, comment="commit time of the earlier value; null: it was zero and had no row"),
    Column("snapshot_before", Integer, comment="snapshot with the earlier value; null: it was zero and had no row"),
    Column("seen_at", DateTime, nullable=False, comment="commit time of the change"),
    postgresql_only(PrimaryKeyConstraint("account_id", "series_id", "hour_start", "seen_at")),
    postgresql_only(Index(None, "account_id", "day")),
    comment="Append-only. One row per change of a stored value.",
)

rejections = Table(
    "rejections",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("snapshot_id", Integer, nullable=False),
    Column("series_id", Integer, nullable=False),
    Column("day", Date, nullable=False),
    Column("hour_start", DateTime),
    Column("reason", Text, nullable=False),
    Column("raw", Text, nullable=False),
    Column("seen_at", DateTime, nullable=False),
    postgresql_only(Index(None, "account_id", "day")),
    comment="One row per rejected record, with the reason and its raw text.",
)

day_coverage = Table(
    "day_coverage",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("day", Date, nullable=False),
    Column("status", Text, nullable=False, comment="failed, missing, open or final"),
    Column("fetched_at", DateTime, comment="when the last successful request for the total began; null: never"),
    Column("volume", BigInteger, nullable=False),
    Column("money", MONEY, nullable=False),
    Column("unattributed_volume", BigInteger, nullable=False),
    Column("unattributed_money", MONEY, nullable=False),
    Column(
        "is_explained",
        Boolean,
        nullable=False,
        comment="the verified queues explain every hour that had ended when the total was requested",
    ),
    Column(
        "is_closed",
        Boolean,
        nullable=False,
        comment="the total was requested at least 10 minutes after the end of the day",
    ),
    PrimaryKeyConstraint("account_id", "day"),
    comment="One row per account and day of its history.",
)

probes = Table(
    "probes",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("question", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("certainty", Text, nullable=False, comment="sure or likely"),
    Column("dimension", Text, comment="of the requested window; null: answered from stored data without a request"),
    Column("member", Text, comment="of the requested window"),
    Column("window_start", DateTime, comment="sent to the API as date"),
    Column("status", Integer, comment="HTTP status"),
    Column("seen_at", DateTime, nullable=False, comment="when the request began, or when stored data was read"),
    postgresql_only(Index(None, "account_id", "question")),
    comment="Append-only. What doctor --probe found out about the API; the latest row of a question applies.",
)

findings = Table(
    "findings",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("run", Integer, nullable=False),
    Column("check_name", Text, nullable=False),
    Column("severity", Text, nullable=False, comment="note, warning or blocking"),
    Column("day", Date),
    Column("queue", Text),
    Column("message", Text, nullable=False),
    Column("seen_at", DateTime, nullable=False),
    postgresql_only(Index(None, "account_id", "run")),
    comment="One row per finding of a run.",
)

OLD_TABLES = {
    "member_statuses": "names",
    "unknown_name_behaviours": "lessons",
    "responses": "answers",
    "snapshots": "readings",
    "over_allocated_hours": "contradictions",
    "day_coverage": "days",
}
OLD_COLUMNS = {
    "dimension": "cut",
    "snapshot_id": "reading",
    "snapshot_before": "reading_before",
    "requested_at": "asked_at",
    "valid_from": "decided_at",
    "is_explained": "explained",
    "is_closed": "closed",
    "out_of_window": "outside",
    "hour_offset_seconds": "grid_seconds",
    "full_day_from_snapshot": "reaches_end",
    "raw_kept_from": "answers_since",
    "behaviour": "gives",
}
OLD_VALUES = {
    ("member_statuses", "status"): {
        "verified": "believed",
        "unverified": "doubted",
        "excluded": "set aside",
        "retired": "ended",
    },
    ("snapshots", "outcome"): {"success": "good", "api_error": "refused", "failed": "broken"},
    ("revisions", "cause"): {"correction": "source", "late_arriving": "growth"},
}

KEYS_IN_DUCKDB = {
    "accounts": ["account_id"],
    "series": ["account_id", "series_id"],
    "runs": ["account_id", "run"],
    "day_coverage": ["account_id", "day"],
}


def old_table(table: Table) -> str:
    return OLD_TABLES.get(table.name, table.name)


def old_column(table: Table, column: str) -> str:
    return "belief" if (table.name, column) == ("member_statuses", "status") else OLD_COLUMNS.get(column, column)


def translated(name: str, words: dict[str, str]) -> str:
    """A column's value with some words exchanged; others stay."""
    cases = " ".join(f"when '{before}' then '{after}'" for before, after in words.items())
    return f"case {name} {cases} else {name} end" if words else name


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        upgrade_postgresql()
        return
    for table in metadata.sorted_tables:
        table.create(op.get_bind())
        selected = []
        for column in table.columns:
            values = OLD_VALUES.get((table.name, column.name), {})
            selected.append(translated(old_column(table, column.name), {old: new for new, old in values.items()}))
        copy_and_drop(f"main.{old_table(table)}", f"internal.{table.name}", selected, [*table.columns.keys()])


def copy_and_drop(source: str, target: str, selected: list[str], columns: list[str]) -> None:
    op.execute(f"insert into {target} ({', '.join(columns)}) select {', '.join(selected)} from {source}")
    op.execute(f"drop table {source}")


def upgrade_postgresql() -> None:
    bind = op.get_bind()
    for table in metadata.sorted_tables:
        old = old_table(table)
        op.execute(f"alter table {old} set schema internal")
        if old != table.name:
            op.execute(f"alter table internal.{old} rename to {table.name}")
            rename_keys(table, old, table.name)
        for column in table.columns:
            if (before := old_column(table, column.name)) != column.name:
                op.execute(f"alter table internal.{table.name} rename column {before} to {column.name}")
        bind.execute(sa.schema.SetTableComment(table))
        for item in table.columns:
            if item.comment:
                bind.execute(sa.schema.SetColumnComment(item))
    for (name, field), values in OLD_VALUES.items():
        update(f"internal.{name}", field, {old: new for new, old in values.items()})


def rename_keys(table: Table, before: str, after: str) -> None:
    """Primary keys and indexes are named after their table."""
    if table.primary_key.columns:
        op.execute(f"alter index internal.pk_{before} rename to pk_{after}")
    if table.indexes:
        op.execute(f"alter index internal.ix_{before} rename to ix_{after}")


def update(table: str, column: str, words: dict[str, str]) -> None:
    changed = ", ".join(f"'{word}'" for word in words)
    op.execute(f"update {table} set {column} = {translated(column, words)} where {column} in ({changed})")


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        downgrade_postgresql()
        return
    for table in metadata.sorted_tables:
        names = {column.name: old_column(table, column.name) for column in table.columns}
        columns = [
            Column(names[c.name], c.type, autoincrement=False, nullable=c.nullable, comment=c.comment)
            for c in table.columns
        ]
        keys = [names[column] for column in KEYS_IN_DUCKDB.get(table.name, ())]
        key = [PrimaryKeyConstraint(*keys, name=f"pk_{old_table(table)}")] if keys else []
        Table(old_table(table), MetaData(schema="main"), *columns, *key, comment=table.comment).create(op.get_bind())
        selected = [translated(column, OLD_VALUES.get((table.name, column), {})) for column in names]
        copy_and_drop(f"internal.{table.name}", f"main.{old_table(table)}", selected, list(names.values()))


def downgrade_postgresql() -> None:
    schema = op.get_bind().exec_driver_sql("select quote_ident(current_schema())").scalar_one()
    for (name, field), values in OLD_VALUES.items():
        update(f"internal.{name}", field, values)
    for table in metadata.sorted_tables:
        old = old_table(table)
        for column in table.columns:
            if (before := old_column(table, column.name)) != column.name:
                op.execute(f"alter table internal.{table.name} rename column {column.name} to {before}")
        if old != table.name:
            rename_keys(table, table.name, old)
            op.execute(f"alter table internal.{table.name} rename to {old}")
        op.execute(f"alter table internal.{old} set schema {schema}")
