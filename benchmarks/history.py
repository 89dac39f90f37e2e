"""Fill a warehouse of any size as years of nightly syncs would leave it.

Rows are ordered as a first sync (backward) and nightly syncs write them, because the order decides what a filter by
day can skip. Every account has six queues and two apps, and optionally some unattributed money. Numbers come from
hashes: the same in every run, and consistent, so all checks pass.
"""

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

NEWEST = date(2026, 11, 15)
"""The current day."""

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
"""The end of the last sync."""


class Shape(NamedTuple):
    """Number of accounts, days per account, and how many of those days were added by nightly syncs."""

    accounts: int
    days: int
    nights: int
    has_unattributed: bool = True


YEARS = Shape(accounts=20, days=3085, nights=365)
"""Ten million facts: 8.5 years of twenty accounts."""

QUARTER = Shape(accounts=1, days=90, nights=30)
"""A new user: one account for three months."""

_QUEUES = (
    "Recaptcha Proxyless",
    "FunCaptcha",
    "English ImageToText",
    "Russian ImageToText",
    "Recaptcha Proxy-on",
    "Funcaptcha Proxyless",
)
_APPS = ("1011", "1022")
_APPS_SINCE = date(2025, 11, 15)

_SERIES = [
    (1, "total", None),
    (2, "queue", None),
    *((3 + number, "queue", name) for number, name in enumerate(_QUEUES)),
    (10, "app", None),
    *((11 + number, "app", name) for number, name in enumerate(_APPS)),
]


_SNAPSHOT_ID = """
    9 * (d.day - date '{first}')
    + case when s.series_id in (1, 2, 10) then 1 when s.series_id < 10 then s.series_id - 1 else s.series_id - 3 end
"""
"""Nine snapshots a day without gaps; unattributed facts come from the total's."""


def fill(connection: sa.Connection, shape: Shape) -> int:
    """Fill an empty warehouse and return the number of facts."""
    connection.exec_driver_sql(
        f"""
        insert into internal.accounts (account_id, name, key_salt, key_hash, hour_offset_seconds, created_at)
        select n, 'account ' || n, '', '', 0, timestamp '2019-01-01' from range(1, {shape.accounts} + 1) t(n)
        """
    )
    for series in _SERIES:
        connection.exec_driver_sql(
            "insert into internal.series select account_id, $1, $2, $3 from internal.accounts", series
        )
    first = NEWEST - timedelta(days=shape.days - 1)
    values = {
        "snapshot_id": _SNAPSHOT_ID.format(first=first),
        "newest": NEWEST,
        "now": NOW.replace(tzinfo=None),
        "apps_since": _APPS_SINCE,
    }
    for statement in (_DATES, _SPEND, _FACTS, _COVERAGE, _SNAPSHOTS, _RESPONSES, _RUNS):
        connection.exec_driver_sql(statement.format(**values, **shape._asdict()))
    connection.exec_driver_sql("drop table spend")
    connection.exec_driver_sql("drop table dates")
    return int(connection.exec_driver_sql("select count(*) from internal.facts").scalar_one())


# Lookback of 3 days: a nightly sync makes the day final that ended 3 days ago; younger days are open.
_DATES = """
create temp table dates as
select
    cast(date '{newest}' - cast(age as integer) as date)                            as day,
    greatest(1, {nights} - age + 5)                                                 as run,
    age < 4                                                                         as is_open,
    least(timestamp '{now}', greatest(date '{newest}' - {nights}, day + 4) + interval 2 hour) as requested_at
from range({days}) t(age)
"""

# Idle hours of a queue have no fact. Every fiftieth hour has an unattributed amount.
_SPEND = """
create temp table spend as
with hours as (
    select a.account_id, d.day, h.hour, s.series_id, s.member,
           hash(a.account_id, d.day, h.hour, s.series_id) as dice
    from internal.accounts a, dates d, range(24) h(hour), internal.series s
    where s.account_id = a.account_id
      and s.dimension = 'queue'
      and cast(d.day as timestamp) + to_hours(cast(h.hour as integer)) < timestamp '{now}'
),
parts as (
    select account_id, series_id, day, hour, cast(1 + dice // 1000 % 4000 as bigint) as volume,
           cast((1 + dice // 1000 % 4000) * series_id * 0.000213 as decimal(18, 9)) as money
    from hours
    where case when member is null then dice % 50 = 0 and {has_unattributed} else dice % 100 < 90 end
),
totals as (
    select account_id, day, hour, cast(sum(volume) as bigint) as volume, cast(sum(money) as decimal(18, 9)) as money
    from parts
    group by all
)
select * from parts
union all
select a.account_id, 1, d.day, h.hour, coalesce(t.volume, 0), coalesce(t.money, 0)
from internal.accounts a
cross join dates d
cross join range(24) h(hour)
left join totals t on t.account_id = a.account_id and t.day = d.day and t.hour = h.hour
where cast(d.day as timestamp) + to_hours(cast(h.hour as integer)) < timestamp '{now}'
union all
select account_id, case when series_id % 4 = 2 then 10 else 11 + series_id % 2 end, day, hour,
       cast(sum(volume) as bigint), cast(sum(money) as decimal(18, 9))
from parts
where day >= date '{apps_since}'
group by all
"""

_FACTS = """
insert into internal.facts
select s.account_id, s.series_id, s.day, cast(s.day as timestamp) + to_hours(cast(s.hour as integer)),
       s.volume, s.money, {snapshot_id}, d.requested_at
from spend s
join dates d on d.day = s.day
order by d.run, s.account_id, s.day desc, s.series_id, s.hour
"""

_COVERAGE = """
insert into internal.day_coverage
select s.account_id, s.day, case when d.is_open then 'open' else 'final' end, d.requested_at,
       sum(s.volume) filter (where series_id = 1), sum(s.money) filter (where series_id = 1),
       coalesce(sum(s.volume) filter (where series_id = 2), 0), coalesce(sum(s.money) filter (where series_id = 2), 0),
       coalesce(sum(s.volume) filter (where series_id = 2), 0) = 0, s.day < date '{newest}'
from spend s
join dates d on d.day = s.day
group by s.account_id, s.day, d.run, d.is_open, d.requested_at
order by d.run, s.account_id, s.day desc
"""

_SNAPSHOTS = """
insert into internal.snapshots
select s.account_id, {snapshot_id}, d.run, s.series_id, d.day,
       cast(d.day as timestamp), cast(d.day as timestamp) + interval 1 day, d.requested_at, d.requested_at,
       'success', '', '', 200, sha256(concat_ws(' ', s.series_id, d.day))
from internal.series s, dates d
where s.member is not null or s.dimension = 'total'
order by d.run, s.account_id, d.day desc, s.series_id
"""

_RESPONSES = """
insert into internal.responses
select distinct account_id, hash, cast('' as blob) from internal.snapshots
"""

_RUNS = """
insert into internal.runs (
    account_id, run, command, version, started_at, ended_at, exit_code, requests, retries, windows_good, windows_failed,
    windows_left, facts_inserted, facts_changed, rejections, out_of_window
)
select r.account_id, r.run, 'sync', '', min(r.requested_at), max(r.requested_at),
       0, count(*), 0, count(*), 0, 0, 0, 0, 0, 0
from internal.snapshots r
group by r.account_id, r.run
"""
