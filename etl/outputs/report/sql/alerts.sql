-- alerts that go on, or went on since a time, newest first
select account, kind, message, began_at, ended_at
from alerts_history
where account in (select unnest(cast(:accounts as text[])))
  and (ended_at is null or ended_at >= :since)
order by ended_at is null desc, began_at desc;
