"""A small warehouse with known spend, for tests of copies, exports and reports."""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from etl.warehouse.engine import warehouse_url

SECRETS = (b"SALT-that-is-not-needed", b"HASH-of-a-client-key-9f3K", b"BODY-of-a-response", b"MESSAGE-of-a-snapshot")

FILLED = """
insert into internal.accounts (account_id, name, key_salt, key_hash, created_at) values
    (1, 'default', 'SALT-that-is-not-needed', 'HASH-of-a-client-key-9f3K', now()), (2, 'shop', '', '', now());
insert into internal.series values (1, 1, 'total', null), (1, 2, 'queue', null), (1, 3, 'queue', 'FunCaptcha'),
                          (2, 1, 'total', null), (2, 3, 'queue', 'O''Brien "x"');
insert into internal.facts
select account_id, series_id, cast(hour as date), hour, 3, cast('1.000000001' as decimal(18, 9)), 1, timestamp '2026-11-05 09:00'
from range(timestamp '2026-10-31', timestamp '2026-11-03', interval 1 hour) t(hour), internal.series
where member is not null or dimension = 'total';
insert into internal.day_coverage
select account_id, day, 'final', timestamp '2026-11-09', 72, 24.000000024, 0, 0, true, true
from range(date '2026-10-31', date '2026-11-03', interval 1 day) t(day), internal.accounts;
insert into internal.revisions values (1, 3, '2026-11-01', '2026-11-01 05:00', 2, 0.5, 3, 1.000000001, 'correction', 1, '2026-11-03', 1,
                              '2026-11-05 09:00');
insert into internal.responses values (1, 'h', 'BODY-of-a-response');
insert into internal.snapshots values (1, 1, 1, 1, '2026-11-01', '2026-11-01', '2026-11-02', '2026-11-05', '2026-11-05', 'success', '',
                             'MESSAGE-of-a-snapshot', 200, 'h');
"""

HOURS = 2 * 72
"""Hours with spend in both accounts."""

BROKEN = "insert into internal.facts select account_id, 2, day, hour_start, 1, 1, 1, loaded_at from internal.facts where account_id = 1 limit 1"
"""Makes the queues of one hour exceed its total."""


@dataclass
class SampleWarehouse:
    """A folder with a warehouse: two accounts, three days across two months, the same spend in every hour."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "warehouse.duckdb"

    @property
    def url(self) -> str:
        return warehouse_url(str(self.file))

    def write(self, sql: str) -> None:
        with duckdb.connect(self.file) as connection:
            connection.execute(sql)

    def set_price(self, money: Decimal) -> None:
        """Set the money of every hour of every series, and of every day, consistently."""
        self.write(
            f"begin; update internal.facts set money = {money}; update internal.day_coverage set money = 24 * "
            f"{money}; commit"
        )


def rows(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(file, read_only=True) as connection:
        return connection.execute(sql).fetchall()
