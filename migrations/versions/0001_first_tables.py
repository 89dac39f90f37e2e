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
        sa.Column("key_hash", sa.LargeBinary, nullable=False),
        sa.Column("since", sa.Date),
        sa.Column("grid_seconds", sa.Integer),
        sa.Column("unknown_names", sa.Text),
        sa.Column("unknown_code", sa.Text),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_accounts"),
    )
    op.create_table(
        "series",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("cut", sa.Text, nullable=False),
        sa.Column("member", sa.Text),
        sa.PrimaryKeyConstraint("account_id", "series_id", name="pk_series"),
    )
    op.create_table(
        "names",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("belief", sa.Text, nullable=False),
        sa.Column("reading", sa.Integer),
        sa.Column("decided_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("exit_code", sa.Integer),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("windows_good", sa.Integer, nullable=False),
        sa.Column("windows_failed", sa.Integer, nullable=False),
        sa.Column("windows_left", sa.Integer, nullable=False),
        sa.Column("facts_inserted", sa.Integer, nullable=False),
        sa.Column("facts_changed", sa.Integer, nullable=False),
        sa.Column("rejections", sa.Integer, nullable=False),
        sa.Column("outside", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "run", name="pk_runs"),
    )
    op.create_table(
        "answers",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "readings",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("reading", sa.Integer, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("window_start", sa.DateTime, nullable=False),
        sa.Column("window_end", sa.DateTime, nullable=False),
        sa.Column("asked_at", sa.DateTime, nullable=False),
        sa.Column("committed_at", sa.DateTime, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("hash", sa.Text),
    )
    op.create_table(
        "facts",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("hour_start", sa.DateTime, nullable=False),
        sa.Column("volume", sa.BigInteger, nullable=False),
        sa.Column("money", MONEY, nullable=False),
        sa.Column("reading", sa.Integer, nullable=False),
        sa.Column("loaded_at", sa.DateTime, nullable=False),
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
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("reading", sa.Integer, nullable=False),
        sa.Column("loaded_before", sa.DateTime),
        sa.Column("reading_before", sa.Integer),
        sa.Column("seen_at", sa.DateTime, nullable=False),
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
    )
    op.create_table(
        "days",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("fetched_at", sa.DateTime),
        sa.Column("volume", sa.BigInteger, nullable=False),
        sa.Column("money", MONEY, nullable=False),
        sa.Column("unattributed_volume", sa.BigInteger, nullable=False),
        sa.Column("unattributed_money", MONEY, nullable=False),
        sa.Column("explained", sa.Boolean, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "day", name="pk_days"),
    )
    op.create_table(
        "findings",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("check_name", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("day", sa.Date),
        sa.Column("queue", sa.Text),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("seen_at", sa.DateTime, nullable=False),
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
