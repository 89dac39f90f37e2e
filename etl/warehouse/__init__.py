"""The database layer for DuckDB and PostgreSQL: connections, schema, migrations, views, checks."""

SCHEMA = "internal"
"""The schema of the tables. Analysts read the views, which are in the default schema."""
