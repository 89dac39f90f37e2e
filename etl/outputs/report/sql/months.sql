-- one row per month with spend, newest first
select month,
       cast(sum(volume) as bigint)        as volume,
       cast(sum(money) as decimal(18, 9)) as money,
       bool_and(is_final)                 as is_final
  from spending_monthly
 where account in (select unnest(cast(:accounts as text[])))
 group by month
 order by month desc
 limit :limit
