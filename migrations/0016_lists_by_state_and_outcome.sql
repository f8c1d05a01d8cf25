-- Lists of an account's rows by what they have in common: found by an index, however many others there are.

CREATE INDEX outbox_by_account_state ON outbox (app_id, state, id);
CREATE INDEX outbox_by_account_person ON outbox (app_id, open_id, id);

-- Which blocks of records hold an outcome. A block that is listed here has `listed` = 1; one that was there
-- before has not, and is found by its own `outcomes`.
CREATE TABLE call_outcomes (
    app_id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    block_id TEXT NOT NULL,
    PRIMARY KEY (app_id, outcome, block_id)
);
ALTER TABLE call_blocks ADD COLUMN listed BIGINT;
CREATE INDEX call_blocks_unlisted ON call_blocks (app_id, id) WHERE listed IS NULL;
