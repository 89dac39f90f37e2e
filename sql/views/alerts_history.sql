-- one row per event that an alert rule reported
--
-- account: the account's name
-- kind: budget, runway, anomaly, stale, price or unattributed
-- rule: the rule as in the configuration file
-- subject: queue, app, IP or period that the event is about; empty: the account
-- message: what was found when it began, with its numbers
-- began_at: when it was found, UTC
-- ended_at: when it was over, UTC; null if it goes on
-- begin_sent_at: when its beginning was delivered, UTC; null if it was not yet
-- end_sent_at: when its end was delivered, UTC; null if it was not yet
create view alerts_history as
select
    a.name          as account,
    e.kind          as kind,
    e.rule          as rule,
    e.subject       as subject,
    e.message       as message,
    e.began_at      as began_at,
    e.ended_at      as ended_at,
    e.begin_sent_at as begin_sent_at,
    e.end_sent_at   as end_sent_at
from internal.alerts e
join internal.accounts a on a.account_id = e.account_id;
