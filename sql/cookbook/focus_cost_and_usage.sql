-- one row per account, queue and hour with spend, in the columns of FOCUS 1.2 for which the API has data
--
-- EffectiveCost is what the tasks cost, paid from a balance. A queue is the service; "(unattributed)" is what no queue explains.
-- The API has no data for the other mandatory columns: BilledCost, InvoiceIssuerName, BillingPeriodStart, BillingPeriodEnd
-- (invoices); ChargeClass (corrections of earlier invoices); ListCost, ContractedCost, PricingQuantity, PricingUnit (price lists);
-- BillingAccountId, BillingAccountName (x_Account is the name in the configuration). focus_1_2_conformant assumes values for them.
select
    currency                               as "BillingCurrency",
    'Usage'                                as "ChargeCategory",
    queue || ', ' || volume || ' tasks'    as "ChargeDescription",
    'Usage-Based'                          as "ChargeFrequency",
    hour_end                               as "ChargePeriodEnd",
    hour_start                             as "ChargePeriodStart",
    nullif(volume, 0)                      as "ConsumedQuantity",
    case when volume <> 0 then 'Tasks' end as "ConsumedUnit",
    money                                  as "EffectiveCost",
    'Anti-Captcha'                         as "ProviderName",
    'Anti-Captcha'                         as "PublisherName",
    'Other'                                as "ServiceCategory",
    queue                                  as "ServiceName",
    account                                as "x_Account",
    is_final                               as "x_IsFinal"
from spending_hourly
order by account, hour_start desc, queue;
