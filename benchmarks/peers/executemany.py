"""The same facts by SQLAlchemy's executemany: one upsert for a list of rows. Arguments: FOLDER DAYS QUEUES."""

import json
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import perf_counter

import sqlalchemy as sa

from benchmarks.history import NOW
from benchmarks.load_once import price, volume

FACTS = """
    create table if not exists facts (
        series_id integer, hour_start timestamp, volume bigint, money decimal(18, 9),
        primary key (series_id, hour_start)
    )
"""

UPSERT = """
    insert into facts values (:series, :hour, :volume, :money)
    on conflict do update set volume = excluded.volume, money = excluded.money
"""


def rows(day: date, queues: int) -> list[dict[str, object]]:
    """Return the hours of one day."""
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001  # as stored, without time zone
    return [
        {
            "series": queue,
            "hour": midnight + timedelta(hours=hour),
            "volume": (count := volume(day.toordinal(), queue, hour)),
            "money": Decimal(count * price(queue)).scaleb(-6),
        }
        for queue in range(queues)
        for hour in range(24)
    ]


def main(folder: str, days: str, queues: str) -> None:
    engine = sa.create_engine(f"duckdb:///{Path(folder) / 'executemany.duckdb'}")
    made = 0.0
    with engine.begin() as connection:
        connection.execute(sa.text(FACTS))
        for age in range(int(days)):
            began = perf_counter()
            new_rows = rows(NOW.date() - timedelta(days=10 + age), int(queues))
            made += perf_counter() - began
            connection.execute(sa.text(UPSERT), new_rows)
    print(json.dumps({"made": made}))


if __name__ == "__main__":
    main(*sys.argv[1:])
