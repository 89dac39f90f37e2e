-- what a night changes: the last days of each account
insert into internal.snapshots
select account_id, snapshot_id + :step * :night, 2, series_id, day, window_start, window_end, requested_at,
       timestamp '2026-11-02' + :step * interval '1 day', outcome, code, message, status, hash
  from internal.snapshots
 where snapshot_id > :days - :night and snapshot_id <= :days;

update internal.facts
   set money = money + 0.000000001
 where day >= date '2026-10-01' + cast(:days - :night as int);
