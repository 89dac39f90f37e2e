"""Names of the files that belong to one account of a warehouse: its lock, journal and delivery log."""

import hashlib
from pathlib import Path
from urllib.parse import quote

from etl.warehouse.engine import name_of, warehouse_path

MAX_NAME_LENGTH = 64
"""Characters of an account's name in a file name. File systems allow 255 bytes, including the warehouse's name."""


def lock_file(warehouse: Path, account: str) -> Path:
    """The file that a sync of the account locks. ``warehouse`` is the real path: each link would get its own lock."""
    return warehouse.with_name(f"{warehouse.name}.{_short(account)}.lock")


def journal_prefix(url: str, account: str, state_folder: Path) -> Path:
    """The path of the account's journal segments without their numbers: beside a DuckDB file, or in ``state_folder``
    if the warehouse is on a server."""
    file = warehouse_path(url)
    # not the URL itself, which may contain a password
    beside = file or state_folder / _short(name_of(url).partition("://")[2])
    return beside.with_name(f"{beside.name}.{_short(account)}.journal")


def delivery_log_file(url: str, account: str, state_folder: Path) -> Path:
    """The file that says which alerts were delivered, beside the journal."""
    prefix = journal_prefix(url, account, state_folder)
    return prefix.with_name(prefix.name.removesuffix(".journal") + ".alerts.json")


def _short(name: str) -> str:
    """The name with all special characters escaped; its hash if that is long."""
    quoted = quote(name, safe="")
    return quoted if len(quoted) <= MAX_NAME_LENGTH else hashlib.sha256(name.encode()).hexdigest()
