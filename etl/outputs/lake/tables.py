"""The tables of a lake: the columns of a view, plus ``month`` and ``bucket``, by which the files are partitioned.

Shipments of two buckets never touch the same file, so processes that ship different accounts do not wait for each
other. An account's bucket depends on its name alone, in the same way as its shard.
"""

from typing import NamedTuple

from etl.warehouse import views

BUCKETS = 16
"""Buckets of a new lake. More mean more files to write in a night, fewer mean more rows to rewrite in each of them."""

VERSION = 2
"""Of the tables below. A lake keeps its number of buckets for ever, see ``description``."""

POSITIONS = "accounts"

_TYPES = {
    **dict.fromkeys(("account", "queue", "currency", "ip", "status", "month", "warehouse"), "string"),
    **dict.fromkeys(("hour_start", "hour_end", "loaded_at", "fetched_at", "seen_at"), "timestamp_ntz"),
    **dict.fromkeys(("snapshot_at", "started_at", "complete_until", "pushed_at"), "timestamp_ntz"),
    **dict.fromkeys(("volume", "volume_before", "volume_after", "unattributed_volume", "contradicted_hours"), "long"),
    **dict.fromkeys(("soft_id", "shipment", "snapshot_id", "started_id", "replay", "missing"), "long"),
    **dict.fromkeys(("money", "money_before", "money_after", "unattributed_money"), "decimal(18,9)"),
    "day": "date",
    "price_per_1000": "decimal(18,9)",
    "is_final": "boolean",
    "bucket": "integer",
}

_DUCKDB_TYPES = {"string": "varchar", "timestamp_ntz": "timestamp", "long": "bigint"}


class LakeTable(NamedTuple):
    """``columns``: comments by name, in order, without those of the partition."""

    name: str
    comment: str
    columns: dict[str, str]
    partition: tuple[str, ...] = ("month", "bucket")

    @property
    def all_columns(self) -> dict[str, str]:
        return self.columns | {name: _PARTITION_COMMENTS[name] for name in self.partition}


_PARTITION_COMMENTS = {"month": "month of day, as YYYY-MM", "bucket": "number from a hash of the account's name"}

_VIEWS = (
    "spending_hourly", "spending_total_hourly", "spending_by_app_daily", "spending_by_ip_daily", "coverage_daily",
    "spending_revisions",
)  # fmt: skip

_POSITION_COLUMNS = {
    "account": "the account's name",
    "warehouse": "id of the warehouse that ships the account",
    "shipment": "number of the last complete shipment of the account's bucket, 0 before the first; each table's "
    "application transaction WAREHOUSE/BUCKET has at least this version",
    "snapshot_id": "last response that was shipped",
    "snapshot_at": "when that response was committed, UTC",
    "started_id": "last response of the shipment that started last; another one than snapshot_id if it was interrupted",
    "started_at": "when that response was committed, UTC",
    "complete_until": "all tables have everything of the account that was committed until then, UTC",
    "replay": "number of the last replay that was shipped; 0: none",
    "missing": "checksum of the days that were never read",
    "pushed_at": "when the shipment was completed, UTC",
}


def tables() -> list[LakeTable]:
    """The tables with rows of views, and last ``accounts``, which says up to where the others are complete."""
    by_name = {view.name: view for view in views.public_views()}
    found = [LakeTable(name, by_name[name].comment, by_name[name].columns) for name in _VIEWS]
    comment = "one row per account: up to where all other tables are complete"
    return [*found, LakeTable(POSITIONS, comment, _POSITION_COLUMNS, ("bucket",))]


def delta_type(column: str) -> str:
    return _TYPES[column]


def duckdb_type(column: str) -> str:
    return _DUCKDB_TYPES.get(_TYPES[column], _TYPES[column])
