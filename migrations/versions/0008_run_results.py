"""Store what the sync summary shows: days read, their spend, new and changed hourly values. Null for earlier runs."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = (
        sa.Column("first_day", sa.Date, comment="first day read"),
        sa.Column("last_day", sa.Date, comment="last day read"),
        sa.Column("days", sa.Integer, comment="number of days read"),
        sa.Column("money", sa.Numeric(18, 9), comment="spend of the days read, at the end of the run"),
        sa.Column("hourly_values_new", sa.Integer, comment="rows added to spending_hourly"),
        sa.Column(
            "hourly_values_changed", sa.Integer, comment="changed rows of spending_hourly, without (unattributed)"
        ),
    )
    for column in columns:
        op.add_column("runs", column, schema="internal")


def downgrade() -> None:
    for name in ("hourly_values_changed", "hourly_values_new", "money", "days", "last_day", "first_day"):
        op.drop_column("runs", name, schema="internal")
