"""The database layer for DuckDB and PostgreSQL: connections, schema, migrations, views, checks."""
