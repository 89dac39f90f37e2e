"""Give the warehouse an id, by which a lake knows whose rows it has."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "warehouse",
        sa.Column("id", sa.Text, nullable=False, comment="random; copies of the warehouse have the same"),
        schema="internal",
        comment="One row.",
    )
    op.execute("insert into internal.warehouse select cast(gen_random_uuid() as text)")


def downgrade() -> None:
    op.drop_table("warehouse", schema="internal")
