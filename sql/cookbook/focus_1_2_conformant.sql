-- one row per account, queue and hour with spend, in the mandatory columns of FOCUS 1.2, as its validator accepts them
--
-- What the API does not give is assumed: BilledCost, ListCost and ContractedCost are the money that was spent, because there are no
-- invoices, list prices or discounts; the billing period is the UTC month; BillingAccountId is the account's name in the
-- configuration; a task is the unit of price and of use; InvoiceId is null, because the balance is paid in advance.
select
    money                                                as "BilledCost",
    account                                              as "BillingAccountId",
    account                                              as "BillingAccountName",
    'Prepaid account'                                    as "BillingAccountType",
    currency                                             as "BillingCurrency",
    date_trunc('month', hour_start) + interval '1 month' as "BillingPeriodEnd",
    date_trunc('month', hour_start)                      as "BillingPeriodStart",
    'Usage'                                              as "ChargeCategory",
    cast(null as varchar)                                as "ChargeClass",
    queue || ', ' || volume || ' tasks'                  as "ChargeDescription",
    'Usage-Based'                                        as "ChargeFrequency",
    hour_end                                             as "ChargePeriodEnd",
    hour_start                                           as "ChargePeriodStart",
    volume                                               as "ConsumedQuantity",
    'Tasks'                                              as "ConsumedUnit",
    money                                                as "ContractedCost",
    money                                                as "EffectiveCost",
    cast(null as varchar)                                as "InvoiceId",
    'Anti-Captcha'                                       as "InvoiceIssuerName",
    money                                                as "ListCost",
    'Standard'                                           as "PricingCategory",
    cast(volume as decimal(18, 1))                       as "PricingQuantity",
    'Tasks'                                              as "PricingUnit",
    'Anti-Captcha'                                       as "ProviderName",
    'Anti-Captcha'                                       as "PublisherName",
    'Other'                                              as "ServiceCategory",
    queue                                                as "ServiceName",
    'Other (Other)'                                      as "ServiceSubcategory",
    is_final                                             as "x_IsFinal"
from spending_hourly
order by account, hour_start desc, queue;
