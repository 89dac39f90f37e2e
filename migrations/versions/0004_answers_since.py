"""From which day on answers are kept, where old ones are dropped."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "accounts", sa.Column("answers_since", sa.Date, comment="final days before this may have lost their answers")
    )


def downgrade() -> None:
    op.drop_column("accounts", "answers_since")
