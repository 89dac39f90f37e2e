"""The SQL of ``status``. ``:a`` is the account's number."""

DAYS = """
    select *
      from internal.day_coverage
     where account_id = :a
     order by day
"""

OVER_ALLOCATED = """
    select distinct o.day
      from internal.over_allocated_hours as o
      join internal.day_coverage         as d on d.account_id = o.account_id and d.day = o.day
     where o.account_id = :a and d.is_closed
"""

NEWEST_HOUR = """
    select max(f.hour_start) as hour_start
      from internal.facts        as f
      join internal.series       as s on s.account_id = f.account_id and s.series_id = f.series_id
      join internal.day_coverage as d on d.account_id = f.account_id and d.day       = f.day
     where f.account_id = :a and s.dimension = 'total' and f.hour_start <= d.fetched_at - interval '1 hour'
"""

CORRECTIONS = """
    select r.hour_start, r.day, max(n.requested_at) as requested_at
      from internal.revisions as r
      join internal.snapshots as n on n.account_id = r.account_id and n.snapshot_id = r.snapshot_id
     where r.account_id = :a and r.cause = 'correction'
     group by r.hour_start, r.day
"""

BALANCES = """
    select b.account_id, b.read_at, b.balance, r.days_by_7_days, r.days_low, r.days_high
      from internal.balances as b
      join internal.accounts as a on a.account_id = b.account_id
      left join runway       as r on r.account = a.name
     where b.read_at = (select max(n.read_at) from internal.balances as n where n.account_id = b.account_id)
"""
"""The newest of each account. The columns after the first are in the order of the fields of ``Balance``."""

RUNS = """
    select run, command, started_at, ended_at as finished_at, exit_code, requests, retries, windows_good,
           windows_failed, windows_left, facts_inserted, facts_changed, rejections, facts_unchanged,
           hourly_values_new, hourly_values_changed
      from internal.runs
     where account_id = :a
     order by run desc
     limit :max_runs
"""
"""The columns are in the order of the fields of ``Run``."""

FINDINGS = """
    select check_name, severity, message, day, queue
      from internal.findings
     where account_id = :a
       and run = (select max(run) from internal.runs where account_id = :a and command = 'sync')
     order by severity, check_name, day, queue
"""
"""A replay records none."""
