-- one row: the number of hours with a revision since a day
select count(*)
  from (select distinct account, hour_start
          from spending_revisions
         where account in (select unnest(cast(:accounts as text[]))) and seen_at >= cast(:first as date)) hours
