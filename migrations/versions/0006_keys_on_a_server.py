"""Add keys and indexes to the growing tables in PostgreSQL, where several programs write at once.

A DuckDB file has one writer and is nine times smaller without indexes. Each key begins with the account, so that a
distributed PostgreSQL can partition the tables by it.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEYS = {
    "answers": ["account_id", "hash"],
    "readings": ["account_id", "reading"],
    "facts": ["account_id", "series_id", "hour_start"],
    "contradictions": ["account_id", "series_id", "hour_start"],
    "revisions": ["account_id", "series_id", "hour_start", "seen_at"],
}
INDEXES = {
    "readings": ["account_id", "day"],
    "facts": ["account_id", "day"],
    "revisions": ["account_id", "day"],
    "rejections": ["account_id", "day"],
    "names": ["account_id", "decided_at"],
    "lessons": ["account_id", "decided_at"],
    "probes": ["account_id", "question"],
    "findings": ["account_id", "run"],
}


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    for table, columns in KEYS.items():
        op.create_primary_key(f"pk_{table}", table, columns)
    for table, columns in INDEXES.items():
        op.create_index(f"ix_{table}", table, columns)


def downgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    for table in INDEXES:
        op.drop_index(f"ix_{table}", table)
    for table in KEYS:
        op.drop_constraint(f"pk_{table}", table, type_="primary")
