"""Remember which raw responses were deleted (raw_retention_days)."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("answers_since", sa.Date))


def downgrade() -> None:
    op.drop_column("accounts", "answers_since")
