"""A warehouse as years of nights leave it, of any size: made by the program's own migrations, filled in one stroke.

One sync read the history backward, account after account; every night since added a day. So lie the rows in the file, and that
decides what a filter by day can skip. Every account has six queues, two apps, and now and then money without a queue. The numbers
are made of hashes: the same in every run, in balance to the last digit, and so every check holds.
"""

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

NEWEST = date(2026, 11, 15)
"""The running day."""

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
"""When the last sync had ended."""


class Shape(NamedTuple):
    """How many accounts, for how many days each, and how many of those were added night by night.

    ``unattributed_by_hour``: whether there is money without a queue now and then.
    """

    accounts: int
    days: int
    nights: int
    unattributed_by_hour: bool = True


YEARS = Shape(accounts=20, days=3085, nights=365)
"""Ten million facts: eight and a half years of twenty accounts."""

QUARTER = Shape(accounts=1, days=90, nights=30)
"""What somebody has who began last summer."""

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


_NUMBER = """
    9 * (d.day - date '{first}')
    + case when s.series_id in (1, 2, 10) then 1 when s.series_id < 10 then s.series_id - 1 else s.series_id - 3 end
"""
"""Nine readings a day, without a gap: a rest's facts are the total's."""


def fill(connection: sa.Connection, shape: Shape) -> int:
    """Puts the history into an empty warehouse; how many facts that is."""
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
    moments = {
        "number": _NUMBER.format(first=first),
        "newest": NEWEST,
        "now": NOW.replace(tzinfo=None),
        "apps_since": _APPS_SINCE,
    }
    for statement in (_DATES, _SPENT, _FACTS, _DAYS, _READINGS, _ANSWERS, _RUNS):
        connection.exec_driver_sql(statement.format(**moments, **shape._asdict()))
    connection.exec_driver_sql("drop table spent")
    connection.exec_driver_sql("drop table dates")
    return int(connection.exec_driver_sql("select count(*) from internal.facts").scalar_one())


# The lookback of three days: a night reads for the last time the day that ended then. What is younger is open.
_DATES = """
create temp table dates as
select
    cast(date '{newest}' - cast(age as integer) as date)                            as day,
    greatest(1, {nights} - age + 5)                                                 as run,
    age < 4                                                                         as is_open,
    least(timestamp '{now}', greatest(date '{newest}' - {nights}, day + 4) + interval 2 hour) as asked_at
from range({days}) t(age)
"""

# An idle hour of a queue is no fact. In every fiftieth hour something is left that no queue explains.
_SPENT = """
create temp table spent as
with hours as (
    select a.account_id, d.day, h.hour, s.series_id, s.member, hash(a.account_id, d.day, h.hour, s.series_id) as dice
    from internal.accounts a, dates d, range(24) h(hour), series s
    where s.account_id = a.account_id
      and s.dimension = 'queue'
      and cast(d.day as timestamp) + to_hours(cast(h.hour as integer)) < timestamp '{now}'
),
parts as (
    select account_id, series_id, day, hour, cast(1 + dice // 1000 % 4000 as bigint) as volume,
           cast((1 + dice // 1000 % 4000) * series_id * 0.000213 as decimal(18, 9)) as money
    from hours
    where case when member is null then dice % 50 = 0 and {rests} else dice % 100 < 90 end
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
select s.account_id, s.series_id, s.day, cast(s.day as timestamp) + to_hours(cast(s.hour as integer)), s.volume, s.money,
       {number}, d.requested_at
from spent s
join dates d on d.day = s.day
order by d.run, s.account_id, s.day desc, s.series_id, s.hour
"""

_DAYS = """
insert into internal.day_coverage
select s.account_id, s.day, case when d.is_open then 'open' else 'final' end, d.requested_at,
       sum(s.volume) filter (where series_id = 1), sum(s.money) filter (where series_id = 1),
       coalesce(sum(s.volume) filter (where series_id = 2), 0), coalesce(sum(s.money) filter (where series_id = 2), 0),
       coalesce(sum(s.volume) filter (where series_id = 2), 0) = 0, s.day < date '{newest}'
from spent s
join dates d on d.day = s.day
group by s.account_id, s.day, d.run, d.is_open, d.requested_at
order by d.run, s.account_id, s.day desc
"""

_READINGS = """
insert into internal.snapshots
select s.account_id, {number}, d.run, s.series_id, d.day,
       cast(d.day as timestamp), cast(d.day as timestamp) + interval 1 day, d.requested_at, d.requested_at,
       'success', '', '', 200, sha256(concat_ws(' ', s.series_id, d.day))
from internal.series s, dates d
where s.member is not null or s.dimension = 'total'
order by d.run, s.account_id, d.day desc, s.series_id
"""

_ANSWERS = """
insert into internal.responses
select distinct account_id, hash, cast('' as blob) from internal.snapshots
"""

_RUNS = """
insert into internal.runs
select r.account_id, r.run, 'sync', '', min(r.requested_at), max(r.requested_at), 0, count(*), 0, count(*), 0, 0, 0, 0, 0, 0, null
from internal.snapshots r
group by r.account_id, r.run
"""
