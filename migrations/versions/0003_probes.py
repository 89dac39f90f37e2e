"""What ``doctor --probe`` learned of the service.

Up, the table begins empty. Down, the answers are lost; another visit asks for them again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "probes",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("certainty", sa.Text, nullable=False, comment="sure or likely"),
        sa.Column(
            "cut",
            sa.Text,
            comment="the window asked: total, queue, app or ip; null: what is held answered, nothing was asked",
        ),
        sa.Column("member", sa.Text, comment="the window asked: queue name, softId or IP"),
        sa.Column("window_start", sa.DateTime, comment="what was sent as date; any second"),
        sa.Column("status", sa.Integer, comment="HTTP status"),
        sa.Column(
            "seen_at",
            sa.DateTime,
            nullable=False,
            comment="when the request began; where none was made, when the question was put",
        ),
        comment="Append-only: how the service itself answered an open question about it. The latest row of a "
        "question holds.",
    )


def downgrade() -> None:
    op.drop_table("probes")
