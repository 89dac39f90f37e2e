-- one row per month with spend, newest first
select cast(date_trunc('month', cast(day as timestamp)) as date) as month,
       cast(sum(volume) as bigint)        as volume,
       cast(sum(money) as decimal(18, 9)) as money,
       bool_and(is_final)                 as is_final
  from spending_daily_in(:zone)
 where account in (select unnest(cast(:accounts as text[])))
 group by 1
 order by 1 desc
 limit :limit
