-- a warehouse of some accounts with a total and two queues each, which lake.py fills without an API
insert into internal.accounts
select i, 'agency-' || i, 'x', 'x', null, 0, timestamp '2026-11-01', null, null
  from range(1, :n + 1) as r(i);

insert into internal.series
select i, s, case s when 1 then 'total' else 'queue' end, case when s > 1 then 'q' || s end
  from range(1, :n + 1) as r(i), range(1, 4) as q(s);

insert into internal.day_coverage
select i, date '2026-10-01' + cast(d as int), 'open', timestamp '2026-11-01', 24, 0.1, 0, 0, true, true
  from range(1, :n + 1) as r(i), range(:days) as e(d);

insert into internal.facts
select i, s, date '2026-10-01' + cast(d as int), date '2026-10-01' + cast(d as int) + h * interval '1 hour',
       (i * 7 + h * 13 + d * 3) % 997, cast((i * 31 + h * 17 + d) % 10007 as decimal(18, 9)) / 10000, 1 + d,
       timestamp '2026-11-01'
  from range(1, :n + 1) as r(i), range(1, 4) as q(s), range(:days) as e(d), range(24) as f(h);

insert into internal.snapshots
select i, 1 + d, 1, 1, date '2026-10-01' + cast(d as int), timestamp '2026-11-01', timestamp '2026-11-01',
       timestamp '2026-11-01', timestamp '2026-11-01', 'success', '', '', 200, null
  from range(1, :n + 1) as r(i), range(:days) as e(d);
