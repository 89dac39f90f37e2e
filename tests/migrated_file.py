"""A DuckDB warehouse with all tables and views, migrated once a process; tests copy it instead of migrating again."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.migrate import upgrade


@cache
def migrated_file() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="migrated"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "warehouse.duckdb"
    upgrade(open_warehouse(warehouse_url(str(path))))
    return path


def copy_migrated(target: Path) -> Path:
    """Copy the migrated warehouse to ``target`` and return it."""
    return Path(shutil.copy(migrated_file(), target))
