"""Keep the rate of requests that all processes share in a table."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rate_limits",
        sa.Column("api_host", sa.Text, nullable=False),
        sa.Column("next_at", sa.DateTime, nullable=False, comment="when the next request may start"),
        sa.Column(
            "paused_until", sa.DateTime, nullable=False, comment="no request starts before; the API asked for it"
        ),
        sa.PrimaryKeyConstraint("api_host", name="pk_rate_limits"),
        schema="internal",
        comment="One row per API host: the rate of requests that all processes share. Used on a server only.",
    )


def downgrade() -> None:
    op.drop_table("rate_limits", schema="internal")
