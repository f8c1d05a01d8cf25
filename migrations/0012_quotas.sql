-- Quotas: how much an account, or all accounts of a tenant, may use of what they share with others.

-- What an operator has set; where there is no row, the host's settings say how much.
CREATE TABLE account_quotas (
    app_id TEXT NOT NULL,
    quota TEXT NOT NULL,
    most BIGINT NOT NULL,
    PRIMARY KEY (app_id, quota)
);
CREATE TABLE tenant_quotas (
    tenant_id TEXT NOT NULL,
    quota TEXT NOT NULL,
    most BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, quota)
);

-- What is in use: the sum of an account's rows of a quota. Triggers that a host makes
-- (`host/server/src/db/quotas/triggers.rs`) keep it in the transaction that uses or gives back, whoever
-- makes that. Each connection (`writer`) has a row of its own, so that transactions do not meet here.
-- `day` is 0 for what is used until it is given back, and a day since 1970 in Beijing for what begins
-- anew each day.
CREATE TABLE quota_use (
    app_id TEXT NOT NULL,
    quota TEXT NOT NULL,
    day BIGINT NOT NULL,
    writer BIGINT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (app_id, quota, day, writer)
);
CREATE INDEX quota_use_by_day ON quota_use (day) WHERE day > 0;

-- 1 for a contact that an effect made and of whom nothing else has told so far.
ALTER TABLE contacts ADD COLUMN made_by_effect BIGINT;
