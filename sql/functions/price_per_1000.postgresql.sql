-- one value: US dollars per 1000 tasks, rounded half away from zero to 9 decimals; null without tasks or if it does not fit
--
-- PostgreSQL rounds a quotient of numerics to a number of places it chooses, but divides integers exactly. So the money is
-- converted to billionths of a dollar.
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
