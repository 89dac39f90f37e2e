-- one row per queue and step of the period (a day, or a week that begins on Monday) with spend
select queue,
       case when cast(:step_days as integer) = 1 then day
            else cast(date_trunc('week', cast(day as timestamp)) as date) end               as step,
       cast(sum(volume) as bigint)                                                          as volume,
       cast(sum(money) as decimal(18, 9))                                                   as money,
       price_per_1000(cast(sum(money) as decimal(18, 9)), cast(sum(volume) as bigint))      as price_per_1000,
       bool_and(is_final)                                                                   as is_final
  from spending_daily_in(:zone)
 where account in (select unnest(cast(:accounts as text[]))) and day between :first and :last
 group by 1, 2
 order by 2, 1
