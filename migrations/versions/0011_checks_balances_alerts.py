"""Keep which final days were read again, what was left on accounts, and alerts."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MONEY = sa.Numeric(18, 9)


def upgrade() -> None:
    _create(
        "day_checks",
        "One row per final day that a run reads again to see whether the API still returns the same.",
        ["account_id", "run", "day"],
        _required("run", sa.Integer),
        _required("day", sa.Date),
        _required(
            "is_random", sa.Boolean, "drawn with equal chances from all final days; false: younger days were preferred"
        ),
        sa.Column(
            "checked_at",
            sa.DateTime,
            comment="when the successful request for the total began; null: there was none yet",
        ),
        sa.Column("is_changed", sa.Boolean, comment="the API returned another total than was stored"),
    )
    _create(
        "balances",
        "One row per run that read the account's balance.",
        ["account_id", "run"],
        _required("run", sa.Integer),
        _required("read_at", sa.DateTime, "when the request began"),
        _required("balance", MONEY, "US dollars"),
        sa.Column("captcha_credits", sa.BigInteger, comment="null: the response had none"),
    )
    _create(
        "alerts",
        "One row per event that a rule reported.",
        ["account_id", "alert_id"],
        _required("alert_id", sa.Integer),
        _required("kind", sa.Text, "budget, runway, anomaly, new, stale, price or unattributed"),
        _required("rule", sa.Text, "the rule as in the configuration file; a changed rule is another one"),
        _required("subject", sa.Text, "queue, app, IP or period that the event is about; empty: the account"),
        _required("message", sa.Text),
        _required("began_at", sa.DateTime),
        sa.Column("ended_at", sa.DateTime, comment="null: it goes on"),
        sa.Column("begin_sent_at", sa.DateTime, comment="when its beginning was delivered; null: not yet"),
        sa.Column("end_sent_at", sa.DateTime, comment="when its end was delivered; null: not yet"),
    )


def downgrade() -> None:
    for name in ("alerts", "balances", "day_checks"):
        op.drop_table(name, schema="internal")


def _create(name: str, comment: str, key: list[str], *columns: "sa.Column[Any]") -> None:
    op.create_table(
        name,
        sa.Column("account_id", sa.Integer, nullable=False, autoincrement=False),
        *columns,
        sa.PrimaryKeyConstraint(*key, name=f"pk_{name}"),
        schema="internal",
        comment=comment,
    )


def _required(name: str, kind: Any, comment: str | None = None) -> "sa.Column[Any]":
    return sa.Column(name, kind, nullable=False, comment=comment)
