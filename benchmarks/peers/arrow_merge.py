"""The floor for loading: the same facts by one MERGE from an Arrow table. Arguments: FOLDER DAYS QUEUES."""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb

FACTS = """
    create table if not exists facts (
        account_id integer, series_id integer, day date, hour_start timestamp, volume bigint, money decimal(18, 9),
        snapshot_id integer, loaded_at timestamp
    )
"""

MAKE = """
    select 1 as account_id, cast(q as integer) as series_id, date '2026-11-05' - cast(d as integer) as day,
           cast(date '2026-11-05' - cast(d as integer) as timestamp) + to_hours(cast(h as integer)) as hour_start,
           cast(1 + hash(d, q, h) // 2 % 4000 as bigint) as volume,
           cast((1 + hash(d, q, h) // 2 % 4000) * (500 + q * 37) * 0.000001 as decimal(18, 9)) as money,
           cast(d * {queues} + q as integer) as snapshot_id, timestamp '2026-11-15 12:00' as loaded_at
      from range({days}) a(d), range({queues}) b(q), range(24) c(h)
"""

MERGE = """
    merge into facts as f using incoming as b
       on f.account_id = b.account_id and f.series_id = b.series_id and f.hour_start = b.hour_start
    when matched and (f.volume <> b.volume or f.money <> b.money)
         then update set volume = b.volume, money = b.money, snapshot_id = b.snapshot_id, loaded_at = b.loaded_at
    when not matched then insert
"""


def main(folder: str, days: str, queues: str) -> None:
    began = perf_counter()
    incoming: Any = duckdb.execute(MAKE.format(days=days, queues=queues)).to_arrow_table()
    made = perf_counter() - began
    with duckdb.connect(str(Path(folder) / "arrow.duckdb")) as connection:
        connection.execute(FACTS)
        connection.register("incoming", incoming)
        connection.execute(MERGE)
    print(json.dumps({"made": made, "rows": incoming.num_rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
