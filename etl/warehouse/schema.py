"""The tables, as SQLAlchemy models. Alembic makes them (``migrations/``); a test holds the two equal.

Every table leads with ``account_id`` and every join carries it: accounts never meet, and a distributed engine can split by it.
Numbers (series, readings, runs) count within their account and are given by its only writer. Times are UTC without zone.

In DuckDB the tables that grow (facts, readings, answers, revisions) have no index: one writer and one MERGE keep their keys
unique, and a file without an index is nine times smaller (measured). In PostgreSQL they have keys, for several programs write.
"""

from typing import TypeVar

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

MONEY = Numeric(18, 9)

metadata = MetaData(naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s"})

_Item = TypeVar("_Item", PrimaryKeyConstraint, Index)


def _on_a_server(item: _Item) -> _Item:
    """A key or an index that PostgreSQL has and DuckDB has not."""
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
        comment="scrypt of the client key; tells a rotated key from a wrong account",
    ),
    Column("since", Date, comment="first day asked for with --since; null: found by --empty-days"),
    Column("grid_seconds", Integer, comment="first second of the account's hours after the asked hour; normally 0"),
    Column("created_at", DateTime, nullable=False),
    Column("reaches_end", Integer, comment="the first reading of a total that held the last hour of the day asked for"),
    Column("answers_since", Date, comment="final days before this may have lost their answers"),
    PrimaryKeyConstraint("account_id"),
    comment="One row per account.",
)

series = Table(
    "series",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("series_id", Integer, nullable=False),
    Column("cut", Text, nullable=False, comment="total, queue, app or ip: ways of slicing the same money"),
    Column("member", Text, comment="queue name, softId or IP; null in a cut: its unattributed rest"),
    PrimaryKeyConstraint("account_id", "series_id"),
    comment="One row per account and filter.",
)

names = Table(
    "names",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("cut", Text, nullable=False, comment="queue, app or ip"),
    Column("member", Text, nullable=False, comment="queue name, softId or IP"),
    Column("belief", Text, nullable=False, comment="believed, doubted, set aside or ended"),
    Column("reading", Integer, comment="the reading that decided it; null: the user did (trusted_queues)"),
    Column("decided_at", DateTime, nullable=False),
    _on_a_server(Index(None, "account_id", "decided_at")),
    comment="Append-only: what was thought of a cut's member, and since when. The latest row of a member holds.",
)

unknown_name_behaviours = Table(
    "lessons",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("cut", Text, nullable=False, comment="queue, app or ip"),
    Column("gives", Text, nullable=False, comment="error, zeros or totals"),
    Column("code", Text, comment="the errorCode it answers with, where it is an error"),
    Column("decided_at", DateTime, nullable=False),
    _on_a_server(Index(None, "account_id", "decided_at")),
    comment="Append-only: what a member that cannot exist gave, and since when that is known. The latest row of a cut holds.",
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
    Column("outside", Integer, nullable=False, comment="records outside the window asked for, set aside"),
    Column("facts_unchanged", Integer, comment="facts read again that stayed as they were; null: not counted yet"),
    PrimaryKeyConstraint("account_id", "run"),
    comment="One row per sync of an account.",
)

answers = Table(
    "answers",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("hash", Text, nullable=False, comment="SHA-256 of the body, hex"),
    Column("body", LargeBinary, nullable=False, comment="the body as it came, zlib-compressed"),
    _on_a_server(PrimaryKeyConstraint("account_id", "hash")),
    comment="One row per account and distinct body.",
)

snapshots = Table(
    "readings",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("reading", Integer, nullable=False),
    Column("run", Integer, nullable=False),
    Column("series_id", Integer, nullable=False),
    Column("day", Date, nullable=False),
    Column("window_start", DateTime, nullable=False, comment="what was sent as date"),
    Column("window_end", DateTime, nullable=False, comment="exclusive"),
    Column("asked_at", DateTime, nullable=False, comment="when the request began"),
    Column("committed_at", DateTime, nullable=False),
    Column("outcome", Text, nullable=False, comment="good, partial, refused or broken"),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("status", Integer, comment="HTTP status; null: nothing came"),
    Column("hash", Text, comment="the answer's; null: nothing came"),
    _on_a_server(PrimaryKeyConstraint("account_id", "reading")),
    _on_a_server(Index(None, "account_id", "day")),
    comment="One row per answered window, append-only. The latest good reading of a window is what is held.",
)

facts = Table(
    "facts",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("series_id", Integer, nullable=False),
    Column("day", Date, nullable=False, comment="the UTC day the hour is booked on"),
    Column("hour_start", DateTime, nullable=False),
    Column("volume", BigInteger, nullable=False),
    Column("money", MONEY, nullable=False),
    Column("reading", Integer, nullable=False, comment="the reading that first gave this value"),
    Column("loaded_at", DateTime, nullable=False, comment="when this value was first believed"),
    _on_a_server(PrimaryKeyConstraint("account_id", "series_id", "hour_start")),
    _on_a_server(Index(None, "account_id", "day")),
    comment="One row per account, series and hour: the money as believed now.",
)

over_allocations = Table(
    "contradictions",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("series_id", Integer, nullable=False, comment="the series of the cut's rest"),
    Column("day", Date, nullable=False, comment="the UTC day the hour is booked on"),
    Column("hour_start", DateTime, nullable=False),
    Column("volume", BigInteger, nullable=False, comment="what the cut's believed members say together"),
    Column("money", MONEY, nullable=False, comment="what the cut's believed members say together"),
    Column("reading", Integer, nullable=False, comment="the latest of their readings"),
    _on_a_server(PrimaryKeyConstraint("account_id", "series_id", "hour_start")),
    comment="One row per account, cut and hour in which the cut's members exceed the total, so that it is not split.",
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
    Column("cause", Text, nullable=False, comment="source, growth or attribution"),
    Column("reading", Integer, nullable=False, comment="the reading that brought the change"),
    Column(
        "loaded_before",
        DateTime,
        comment="since when the earlier value was held; null: it was a zero, which no fact keeps",
    ),
    Column("reading_before", Integer, comment="the earlier value's reading"),
    Column("seen_at", DateTime, nullable=False, comment="commit time of the change"),
    _on_a_server(PrimaryKeyConstraint("account_id", "series_id", "hour_start", "seen_at")),
    _on_a_server(Index(None, "account_id", "day")),
    comment="One row per change of a held value, append-only.",
)

rejections = Table(
    "rejections",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("reading", Integer, nullable=False),
    Column("series_id", Integer, nullable=False),
    Column("day", Date, nullable=False),
    Column("hour_start", DateTime),
    Column("reason", Text, nullable=False),
    Column("raw", Text, nullable=False),
    Column("seen_at", DateTime, nullable=False),
    _on_a_server(Index(None, "account_id", "day")),
    comment="One row per refused record, with its reason and raw text.",
)

days = Table(
    "days",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("day", Date, nullable=False),
    Column("status", Text, nullable=False, comment="failed, missing, open or final"),
    Column("fetched_at", DateTime, comment="when the last good total was asked"),
    Column("volume", BigInteger, nullable=False),
    Column("money", MONEY, nullable=False),
    Column("unattributed_volume", BigInteger, nullable=False),
    Column("unattributed_money", MONEY, nullable=False),
    Column(
        "explained",
        Boolean,
        nullable=False,
        comment="queues explain every hour that had ended when the total was asked",
    ),
    Column("closed", Boolean, nullable=False, comment="the total was asked at least 10 minutes after the day's end"),
    PrimaryKeyConstraint("account_id", "day"),
    comment="One row per account and day of the history: coverage, and what is left of the day's total.",
)

probes = Table(
    "probes",
    metadata,
    Column("account_id", Integer, nullable=False),
    Column("question", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("certainty", Text, nullable=False, comment="sure or likely"),
    Column(
        "cut", Text, comment="the window asked: total, queue, app or ip; null: what is held answered, nothing was asked"
    ),
    Column("member", Text, comment="the window asked: queue name, softId or IP"),
    Column("window_start", DateTime, comment="what was sent as date; any second"),
    Column("status", Integer, comment="HTTP status"),
    Column(
        "seen_at",
        DateTime,
        nullable=False,
        comment="when the request began; where none was made, when the question was put",
    ),
    _on_a_server(Index(None, "account_id", "question")),
    comment="Append-only: how the service itself answered an open question about it. The latest row of a question holds.",
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
    _on_a_server(Index(None, "account_id", "run")),
    comment="One row per finding of a run.",
)
