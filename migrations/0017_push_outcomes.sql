-- What a plugin composed for the recipients of a block: JSON, the different compositions and which of them
-- each recipient gets. Beside the block, whose row is written again with each window; gone once nobody of
-- the block waits.
CREATE TABLE push_compositions (
    app_id TEXT NOT NULL,
    push_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    compositions TEXT NOT NULL,
    PRIMARY KEY (app_id, push_id, number)
);

-- A push begins at `starts_at`; its `audience` is JSON; `reference` is what the tenant calls the matter. What WeChat tells of messages that it took: recipients are found by the least and the greatest msgid of
-- their block.
ALTER TABLE pushes ADD COLUMN starts_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pushes ADD COLUMN reference TEXT;
ALTER TABLE pushes ADD COLUMN delivered BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pushes ADD COLUMN undelivered BIGINT NOT NULL DEFAULT 0;
ALTER TABLE push_blocks ADD COLUMN least_msgid BIGINT;
ALTER TABLE push_blocks ADD COLUMN greatest_msgid BIGINT;
CREATE INDEX pushes_by_reference ON pushes (app_id, reference) WHERE reference IS NOT NULL AND ended_at IS NULL;
CREATE INDEX push_blocks_by_msgid ON push_blocks (app_id, greatest_msgid) WHERE greatest_msgid IS NOT NULL;

-- Receipts that came before the outcomes of their messages were kept. `failure` is WeChat's word for why a
-- message was not delivered.
CREATE TABLE push_receipts (
    app_id TEXT NOT NULL,
    msgid BIGINT NOT NULL,
    failure TEXT,
    came_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, msgid)
);
CREATE INDEX push_receipts_by_age ON push_receipts (came_at);
