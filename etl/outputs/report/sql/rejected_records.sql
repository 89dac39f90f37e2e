-- one row: the number of records rejected since a day
select count(*) from spending_rejections where account in (select unnest(cast(:accounts as text[]))) and seen_at >= cast(:first as date)
