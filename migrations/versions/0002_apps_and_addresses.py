"""Add apps and IPs beside queues, and the hours whose members exceed the total.

Up, nothing is lost: names become names of the dimension ``queue``. ``contradictions`` starts empty and fills as days
are read again. Down, the status of apps and IPs is lost, and a retired queue is verified again.

DuckDB cannot add a column with a constraint, so ``names`` is created again and copied.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MONEY = sa.Numeric(18, 9)


def upgrade() -> None:
    op.rename_table("names", "names_before")
    op.create_table(
        "names",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("cut", sa.Text, nullable=False),
        sa.Column("member", sa.Text, nullable=False),
        sa.Column("belief", sa.Text, nullable=False),
        sa.Column("reading", sa.Integer),
        sa.Column("decided_at", sa.DateTime, nullable=False),
    )
    op.execute(
        "insert into names (account_id, cut, member, belief, reading, decided_at) "
        "select account_id, 'queue', queue, belief, reading, decided_at from names_before"
    )
    op.drop_table("names_before")
    op.create_table(
        "lessons",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("cut", sa.Text, nullable=False),
        sa.Column("gives", sa.Text, nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("decided_at", sa.DateTime, nullable=False),
    )
    op.execute(
        "insert into lessons (account_id, cut, gives, code, decided_at) "
        "select account_id, 'queue', unknown_names, unknown_code, created_at from accounts where unknown_names "
        "is not null"
    )
    op.drop_column("accounts", "unknown_names")
    op.drop_column("accounts", "unknown_code")
    op.add_column("accounts", sa.Column("reaches_end", sa.Integer))
    op.create_table(
        "contradictions",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("hour_start", sa.DateTime, nullable=False),
        sa.Column("volume", sa.BigInteger, nullable=False),
        sa.Column("money", MONEY, nullable=False),
        sa.Column("reading", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("contradictions")
    op.drop_column("accounts", "reaches_end")
    op.add_column("accounts", sa.Column("unknown_names", sa.Text))
    op.add_column("accounts", sa.Column("unknown_code", sa.Text))
    op.execute(
        "update accounts set unknown_names = l.gives, unknown_code = l.code "
        "from lessons as l where l.account_id = accounts.account_id and l.cut = 'queue' "
        "and l.decided_at = (select max(n.decided_at) from lessons as n where n.account_id = l.account_id and "
        "n.cut = l.cut)"
    )
    op.drop_table("lessons")
    op.rename_table("names", "names_after")
    op.create_table(
        "names",
        sa.Column("account_id", sa.Integer, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("belief", sa.Text, nullable=False),
        sa.Column("reading", sa.Integer),
        sa.Column("decided_at", sa.DateTime, nullable=False),
    )
    op.execute(
        "insert into names (account_id, queue, belief, reading, decided_at) "
        "select account_id, member, case belief when 'ended' then 'believed' else belief end, reading, decided_at "
        "from names_after where cut = 'queue'"
    )
    op.drop_table("names_after")
