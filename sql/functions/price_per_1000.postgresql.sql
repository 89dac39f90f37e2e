-- US dollars per 1000 tasks, rounded once, half away from zero, to 9 places; null without tasks, or when it does not fit
--
-- A quotient of numerics is rounded where PostgreSQL likes. So whole numbers are divided: the money in billionths of a dollar.
create function price_per_1000(money numeric, volume bigint) returns numeric
    language sql
    immutable
    parallel safe
return
    case when abs(money) / 999999 < volume then
        cast(
            sign(money) * div(abs(money) * 1000000000 * 2000 + volume, 2 * cast(volume as numeric)) * 0.000000001
            as numeric(18, 9)
        )
    end;
