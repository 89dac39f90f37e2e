"""The tables, as SQLAlchemy models. The migrations create them; a test compares the two.

Analysts read the views of ``sql/views``; the tables behind them are in a schema of their own, ``internal``.

Every key and every join of rows that belong to an account begins with ``account_id``: rows of two accounts never meet,
and a distributed PostgreSQL can split the tables by it. Series, snapshots and runs are numbered within their account.
Times are UTC without a zone.

In DuckDB the large tables have no key: there is one writer, MERGE keeps their rows unique, and the file is nine times
smaller without an index (measured). In PostgreSQL they have keys, because several programs write at once.
"""

from typing import Any, TypeVar

import sqlalchemy as sa

from etl.warehouse import SCHEMA

MONEY = sa.Numeric(18, 9)

metadata = sa.MetaData(schema=SCHEMA, naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s"})

_Item = TypeVar("_Item", sa.PrimaryKeyConstraint, sa.Index)


def _postgresql_only(item: _Item) -> _Item:
    return item.ddl_if(dialect="postgresql")


def _table(name: str, comment: str, *items: sa.Column[Any] | sa.PrimaryKeyConstraint | sa.Index) -> sa.Table:
    account_id = sa.Column("account_id", sa.Integer, autoincrement=False, nullable=False)
    return sa.Table(name, metadata, account_id, *items, comment=comment)


def _required(name: str, type_: Any, comment: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, comment=comment)


def _optional(name: str, type_: Any, comment: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, type_, comment=comment)


accounts = _table(
    "accounts",
    "One row per account.",
    _required("name", sa.Text),
    _required("key_salt", sa.LargeBinary),
    _required(
        "key_hash", sa.LargeBinary, "scrypt hash of the client key; tells a rotated key from the key of another account"
    ),
    _optional("since", sa.Date, "first day to load, from --since; null: found by --empty-days"),
    _optional(
        "hour_offset_seconds", sa.Integer, "seconds past the full hour at which the account's hours begin; usually 0"
    ),
    _required("created_at", sa.DateTime),
    _optional(
        "full_day_from_snapshot",
        sa.Integer,
        "first snapshot of a total that had a record for the last hour of its day; null: none yet",
    ),
    _optional(
        "raw_kept_from", sa.Date, "responses of final days before this day may have been deleted; null: all are kept"
    ),
    sa.PrimaryKeyConstraint("account_id"),
)

series = _table(
    "series",
    "One row per account, dimension and member.",
    _required("series_id", sa.Integer),
    _required("dimension", sa.Text, "total, queue, app or ip: each is a breakdown of the same money"),
    _optional(
        "member", sa.Text, "queue name, softId or IP address; null: the total, or what is unattributed in the dimension"
    ),
    sa.PrimaryKeyConstraint("account_id", "series_id"),
)

member_statuses = _table(
    "member_statuses",
    "Append-only. One row per change of a member's status; the latest row of a member applies.",
    _required("dimension", sa.Text, "queue, app or ip"),
    _required("member", sa.Text, "queue name, softId or IP address"),
    _required("status", sa.Text, "verified, unverified, excluded or retired"),
    _optional("snapshot_id", sa.Integer, "snapshot that decided the status; null: the user did (trusted_queues)"),
    _required("valid_from", sa.DateTime),
    _postgresql_only(sa.Index(None, "account_id", "valid_from")),
)

unknown_name_behaviours = _table(
    "unknown_name_behaviours",
    "Append-only. What the API returns for a name that does not exist; the latest row of a dimension applies.",
    _required("dimension", sa.Text, "queue, app or ip"),
    _required("behaviour", sa.Text, "error, zeros or totals"),
    _optional("code", sa.Text, "errorCode of the response, if it is an error"),
    _required("valid_from", sa.DateTime),
    _postgresql_only(sa.Index(None, "account_id", "valid_from")),
)

runs = _table(
    "runs",
    "One row per run of sync or replay and account.",
    _required("run", sa.Integer),
    _required("command", sa.Text),
    _required("version", sa.Text),
    _required("started_at", sa.DateTime),
    _optional("ended_at", sa.DateTime, "null: still running, or killed"),
    _optional("exit_code", sa.Integer),
    _required("requests", sa.Integer),
    _required("retries", sa.Integer),
    _required("windows_good", sa.Integer),
    _required("windows_failed", sa.Integer),
    _required("windows_left", sa.Integer),
    _required("facts_inserted", sa.Integer),
    _required("facts_changed", sa.Integer),
    _required("rejections", sa.Integer),
    _required("out_of_window", sa.Integer, "records outside their window; not loaded"),
    _optional(
        "facts_unchanged", sa.Integer, "facts read again without a change; null: an old version did not count them"
    ),
    _optional("first_day", sa.Date, "first day read"),
    _optional("last_day", sa.Date, "last day read"),
    _optional("days", sa.Integer, "number of days read"),
    _optional("money", MONEY, "spend of the days read, at the end of the run"),
    _optional("hourly_values_new", sa.Integer, "rows added to spending_hourly"),
    _optional("hourly_values_changed", sa.Integer, "changed rows of spending_hourly, without (unattributed)"),
    sa.PrimaryKeyConstraint("account_id", "run"),
)

responses = _table(
    "responses",
    "One row per account and distinct response body.",
    _required("hash", sa.Text, "SHA-256 of the body, in hex"),
    _required("body", sa.LargeBinary, "the body as received, compressed with zlib"),
    _postgresql_only(sa.PrimaryKeyConstraint("account_id", "hash")),
)

snapshots = _table(
    "snapshots",
    "Append-only. One row per completed window; the latest successful snapshot of a window applies.",
    _required("snapshot_id", sa.Integer),
    _required("run", sa.Integer),
    _required("series_id", sa.Integer),
    _required("day", sa.Date),
    _required("window_start", sa.DateTime, "sent to the API as date"),
    _required("window_end", sa.DateTime, "exclusive"),
    _required("requested_at", sa.DateTime, "when the request began"),
    _required("committed_at", sa.DateTime),
    _required("outcome", sa.Text, "success, partial, api_error or failed"),
    _required("code", sa.Text),
    _required("message", sa.Text),
    _optional("status", sa.Integer, "HTTP status; null: no response"),
    _optional("hash", sa.Text, "hash of the response body; null: no response"),
    _postgresql_only(sa.PrimaryKeyConstraint("account_id", "snapshot_id")),
    _postgresql_only(sa.Index(None, "account_id", "day")),
)

facts = _table(
    "facts",
    "One row per account, series and hour: the current value.",
    _required("series_id", sa.Integer),
    _required("day", sa.Date, "UTC day that the hour counts towards"),
    _required("hour_start", sa.DateTime),
    _required("volume", sa.BigInteger),
    _required("money", MONEY),
    _required("snapshot_id", sa.Integer, "first snapshot with this value"),
    _required("loaded_at", sa.DateTime, "commit time of this value"),
    _postgresql_only(sa.PrimaryKeyConstraint("account_id", "series_id", "hour_start")),
    _postgresql_only(sa.Index(None, "account_id", "day")),
)

over_allocated_hours = _table(
    "over_allocated_hours",
    "One row per account, dimension and hour whose members add up to more than the total; its breakdown is not used.",
    _required("series_id", sa.Integer, "the unattributed series of the dimension"),
    _required("day", sa.Date, "UTC day that the hour counts towards"),
    _required("hour_start", sa.DateTime),
    _required("volume", sa.BigInteger, "sum over the verified members"),
    _required("money", MONEY, "sum over the verified members"),
    _required("snapshot_id", sa.Integer, "latest of the members' snapshots"),
    _postgresql_only(sa.PrimaryKeyConstraint("account_id", "series_id", "hour_start")),
)

revisions = _table(
    "revisions",
    "Append-only. One row per change of a stored value.",
    _required("series_id", sa.Integer),
    _required("day", sa.Date),
    _required("hour_start", sa.DateTime),
    _required("volume_before", sa.BigInteger),
    _required("money_before", MONEY),
    _required("volume_after", sa.BigInteger),
    _required("money_after", MONEY),
    _required("cause", sa.Text, "correction, late_arriving or attribution"),
    _required("snapshot_id", sa.Integer, "snapshot with the new value"),
    _optional("loaded_before", sa.DateTime, "commit time of the earlier value; null: it was zero and had no row"),
    _optional("snapshot_before", sa.Integer, "snapshot with the earlier value; null: it was zero and had no row"),
    _required("seen_at", sa.DateTime, "commit time of the change"),
    _postgresql_only(sa.PrimaryKeyConstraint("account_id", "series_id", "hour_start", "seen_at")),
    _postgresql_only(sa.Index(None, "account_id", "day")),
)

rejections = _table(
    "rejections",
    "One row per rejected record, with the reason and its raw text.",
    _required("snapshot_id", sa.Integer),
    _required("series_id", sa.Integer),
    _required("day", sa.Date),
    _optional("hour_start", sa.DateTime),
    _required("reason", sa.Text),
    _required("raw", sa.Text),
    _required("seen_at", sa.DateTime),
    _postgresql_only(sa.Index(None, "account_id", "day")),
)

day_coverage = _table(
    "day_coverage",
    "One row per account and day of its history.",
    _required("day", sa.Date),
    _required("status", sa.Text, "failed, missing, open or final"),
    _optional("fetched_at", sa.DateTime, "when the last successful request for the total began; null: never"),
    _required("volume", sa.BigInteger),
    _required("money", MONEY),
    _required("unattributed_volume", sa.BigInteger),
    _required("unattributed_money", MONEY),
    _required(
        "is_explained", sa.Boolean, "the verified queues explain every hour that had ended when the total was requested"
    ),
    _required("is_closed", sa.Boolean, "the total was requested at least 10 minutes after the end of the day"),
    sa.PrimaryKeyConstraint("account_id", "day"),
)

probes = _table(
    "probes",
    "Append-only. What doctor --probe found out about the API; the latest row of a question applies.",
    _required("question", sa.Text),
    _required("answer", sa.Text),
    _required("certainty", sa.Text, "sure or likely"),
    _optional("dimension", sa.Text, "of the requested window; null: answered from stored data without a request"),
    _optional("member", sa.Text, "of the requested window"),
    _optional("window_start", sa.DateTime, "sent to the API as date"),
    _optional("status", sa.Integer, "HTTP status"),
    _required("seen_at", sa.DateTime, "when the request began, or when stored data was read"),
    _postgresql_only(sa.Index(None, "account_id", "question")),
)

findings = _table(
    "findings",
    "One row per finding of a run.",
    _required("run", sa.Integer),
    _required("check_name", sa.Text),
    _required("severity", sa.Text, "note, warning or blocking"),
    _optional("day", sa.Date),
    _optional("queue", sa.Text),
    _required("message", sa.Text),
    _required("seen_at", sa.DateTime),
    _postgresql_only(sa.Index(None, "account_id", "run")),
)

day_checks = _table(
    "day_checks",
    "One row per final day that a run reads again to see whether the API still returns the same.",
    _required("run", sa.Integer),
    _required("day", sa.Date),
    _required(
        "is_random", sa.Boolean, "drawn with equal chances from all final days; false: younger days were preferred"
    ),
    _optional("checked_at", sa.DateTime, "when the successful request for the total began; null: there was none yet"),
    _optional("is_changed", sa.Boolean, "the API returned another total than was stored"),
    sa.PrimaryKeyConstraint("account_id", "run", "day"),
)

balances = _table(
    "balances",
    "One row per run that read the account's balance.",
    _required("run", sa.Integer),
    _required("read_at", sa.DateTime, "when the request began"),
    _required("balance", MONEY, "US dollars"),
    _optional("captcha_credits", sa.BigInteger, "null: the response had none"),
    sa.PrimaryKeyConstraint("account_id", "run"),
)

alerts = _table(
    "alerts",
    "One row per event that a rule reported.",
    _required("alert_id", sa.Integer),
    _required("kind", sa.Text, "budget, runway, anomaly, new, stale, price or unattributed"),
    _required("rule", sa.Text, "the rule as in the configuration file; a changed rule is another one"),
    _required("subject", sa.Text, "queue, app, IP or period that the event is about; empty: the account"),
    _required("message", sa.Text),
    _required("began_at", sa.DateTime),
    _optional("ended_at", sa.DateTime, "null: it goes on"),
    _optional("begin_sent_at", sa.DateTime, "when its beginning was delivered; null: not yet"),
    _optional("end_sent_at", sa.DateTime, "when its end was delivered; null: not yet"),
    sa.PrimaryKeyConstraint("account_id", "alert_id"),
)

warehouse = sa.Table(
    "warehouse",
    metadata,
    _required("id", sa.Text, "random; copies of the warehouse have the same"),
    comment="One row.",
)

rate_limits = sa.Table(
    "rate_limits",
    metadata,
    _required("api_host", sa.Text),
    _required("next_at", sa.DateTime, "when the next request may start"),
    _required("paused_until", sa.DateTime, "no request starts before; the API asked for it"),
    sa.PrimaryKeyConstraint("api_host"),
    comment="One row per API host: the rate of requests that all processes share. Used on a server only.",
)
