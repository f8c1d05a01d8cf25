-- Records of calls, many to a row: they are written all the time and read rarely.

-- A block holds records that one host wrote at once, of one account and one deployment. `id` is 32 hex
-- digits that sort by the time of its newest record. `outcomes` names those in it, each between spaces.
-- `records` is a JSON list, in the order in which the calls ended.
--
-- `calls`, with a row for each record, is not used any more; a later release drops it.
CREATE TABLE call_blocks (
    id TEXT PRIMARY KEY,
    app_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    version BIGINT NOT NULL,
    outcomes TEXT NOT NULL,
    records TEXT NOT NULL
);
CREATE INDEX call_blocks_by_account ON call_blocks (app_id, id);
