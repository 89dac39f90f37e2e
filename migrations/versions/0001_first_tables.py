"""The tables of the first release."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MONEY = sa.Numeric(18, 9)


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("key_salt", sa.LargeBinary, nullable=False),
        sa.Column(
            "key_hash",
            sa.LargeBinary,
            nullable=False,
            comment="scrypt of the client key; tells a rotated key from a wrong account",
        ),
        sa.Column("since", sa.Date, comment="first day asked for with --since; null: found by --empty-days"),
        sa.Column(
            "grid_seconds", sa.Integer, comment="first second of the account's hours after the asked hour; normally 0"
        ),
        sa.Column("unknown_names", sa.Text, comment="what a queue that cannot exist answers: error, zeros or totals"),
        sa.Column("unknown_code", sa.Text, comment="the errorCode it answers with, where it is an error"),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_accounts"),
        comment="One row per account.",
    )
    op.create_table(
        "series",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column(
            "cut",
            sa.Text,
            nullable=False,
            comment="total, queue, app or ip: ways of slicing the same money",
        ),
        sa.Column("member", sa.Text, comment="queue name, softId or IP; null in a cut: its unattributed rest"),
        sa.PrimaryKeyConstraint("account_id", "series_id", name="pk_series"),
        comment="One row per account and filter.",
    )
    op.create_table(
        "names",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("belief", sa.Text, nullable=False, comment="believed, doubted or set aside"),
        sa.Column("reading", sa.Integer, comment="the reading that decided it; null: the user did (trusted_queues)"),
        sa.Column("decided_at", sa.DateTime, nullable=False),
        comment="Append-only: what was thought of a queue name, and since when. The latest row of a name holds.",
    )
    op.create_table(
        "runs",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("ended_at", sa.DateTime, comment="null: still running, or killed"),
        sa.Column("exit_code", sa.Integer),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("windows_good", sa.Integer, nullable=False),
        sa.Column("windows_failed", sa.Integer, nullable=False),
        sa.Column("windows_left", sa.Integer, nullable=False),
        sa.Column("facts_inserted", sa.Integer, nullable=False),
        sa.Column("facts_changed", sa.Integer, nullable=False),
        sa.Column("rejections", sa.Integer, nullable=False),
        sa.Column("outside", sa.Integer, nullable=False, comment="records outside the window asked for, set aside"),
        sa.PrimaryKeyConstraint("account_id", "run", name="pk_runs"),
        comment="One row per sync of an account.",
    )
    op.create_table(
        "answers",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("hash", sa.Text, nullable=False, comment="SHA-256 of the body, hex"),
        sa.Column("body", sa.LargeBinary, nullable=False, comment="the body as it came, zlib-compressed"),
        comment="One row per account and distinct body.",
    )
    op.create_table(
        "readings",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("reading", sa.Integer, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("window_start", sa.DateTime, nullable=False, comment="what was sent as date"),
        sa.Column("window_end", sa.DateTime, nullable=False, comment="exclusive"),
        sa.Column("asked_at", sa.DateTime, nullable=False, comment="when the request began"),
        sa.Column("committed_at", sa.DateTime, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False, comment="good, partial, refused or broken"),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, comment="HTTP status; null: nothing came"),
        sa.Column("hash", sa.Text, comment="the answer's; null: nothing came"),
        comment="One row per answered window, append-only. The latest good reading of a window is what is held.",
    )
    op.create_table(
        "facts",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("day", sa.Date, nullable=False, comment="the UTC day the hour is booked on"),
        sa.Column("hour_start", sa.DateTime, nullable=False),
        sa.Column("volume", sa.BigInteger, nullable=False),
        sa.Column("money", MONEY, nullable=False),
        sa.Column("reading", sa.Integer, nullable=False, comment="the reading that first gave this value"),
        sa.Column("loaded_at", sa.DateTime, nullable=False, comment="when this value was first believed"),
        comment="One row per account, series and hour: the money as believed now.",
    )
    op.create_table(
        "revisions",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("hour_start", sa.DateTime, nullable=False),
        sa.Column("volume_before", sa.BigInteger, nullable=False),
        sa.Column("money_before", MONEY, nullable=False),
        sa.Column("volume_after", sa.BigInteger, nullable=False),
        sa.Column("money_after", MONEY, nullable=False),
        sa.Column("cause", sa.Text, nullable=False, comment="source, growth or attribution"),
        sa.Column("reading", sa.Integer, nullable=False, comment="the reading that brought the change"),
        sa.Column(
            "loaded_before",
            sa.DateTime,
            comment="since when the earlier value was held; null: it was a zero, which no fact keeps",
        ),
        sa.Column("reading_before", sa.Integer, comment="the earlier value's reading"),
        sa.Column("seen_at", sa.DateTime, nullable=False, comment="commit time of the change"),
        comment="One row per change of a held value, append-only.",
    )
    op.create_table(
        "rejections",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("reading", sa.Integer, nullable=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("hour_start", sa.DateTime),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("raw", sa.Text, nullable=False),
        sa.Column("seen_at", sa.DateTime, nullable=False),
        comment="One row per refused record, with its reason and raw text.",
    )
    op.create_table(
        "days",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("status", sa.Text, nullable=False, comment="failed, missing, open or final"),
        sa.Column("fetched_at", sa.DateTime, comment="when the last good total was asked"),
        sa.Column("volume", sa.BigInteger, nullable=False),
        sa.Column("money", MONEY, nullable=False),
        sa.Column("unattributed_volume", sa.BigInteger, nullable=False),
        sa.Column("unattributed_money", MONEY, nullable=False),
        sa.Column(
            "explained",
            sa.Boolean,
            nullable=False,
            comment="queues explain every hour that had ended when the total was asked",
        ),
        sa.Column(
            "closed", sa.Boolean, nullable=False, comment="the total was asked at least 10 minutes after the day's end"
        ),
        sa.PrimaryKeyConstraint("account_id", "day", name="pk_days"),
        comment="One row per account and day of the history: coverage, and what is left of the day's total.",
    )
    op.create_table(
        "findings",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("check_name", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False, comment="note, warning or blocking"),
        sa.Column("day", sa.Date),
        sa.Column("queue", sa.Text),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("seen_at", sa.DateTime, nullable=False),
        comment="One row per finding of a run.",
    )


def downgrade() -> None:
    op.drop_table("findings")
    op.drop_table("days")
    op.drop_table("rejections")
    op.drop_table("revisions")
    op.drop_table("facts")
    op.drop_table("readings")
    op.drop_table("answers")
    op.drop_table("runs")
    op.drop_table("names")
    op.drop_table("series")
    op.drop_table("accounts")
