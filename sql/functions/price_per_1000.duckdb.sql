-- one value: US dollars per 1000 tasks, rounded half away from zero to 9 decimals; null without tasks or if it does not fit
--
-- DuckDB divides decimals as DOUBLE but divides integers exactly. So the money is converted to billionths of a dollar.
create macro price_per_1000(money, volume) as
    case when abs(money) / 999999 < volume then
        cast(
            cast(
                sign(money)
                * ((abs(cast(cast(money as decimal(38, 9)) * 1000000000 as hugeint)) * 2000 + volume) // (2 * cast(volume as hugeint)))
                as decimal(18, 0)
            ) * 0.000000001
            as decimal(18, 9)
        )
    end;
