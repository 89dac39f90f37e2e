"""Count facts that a run read again with the same value; null for earlier runs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("facts_unchanged", sa.Integer))


def downgrade() -> None:
    op.drop_column("runs", "facts_unchanged")
