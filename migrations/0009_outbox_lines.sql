-- The outbox at any size: what may be sent next is found without looking at what waits behind it.

-- Of the rows of one person for one API, which go out in order, only the first can be sent. This table
-- has one row for each such line: `due_at` is when a host has to look at the line's first row next.
-- Whoever leases a row has taken it in `outbox` (`due_at`, `lease_owner`, `fence`); a line only says
-- where to look.
CREATE TABLE outbox_lines (
    app_id TEXT NOT NULL,
    open_id TEXT NOT NULL,
    path TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, open_id, path)
);
CREATE INDEX outbox_lines_due ON outbox_lines (app_id, path, due_at, open_id);

-- `fence` goes up with every lease; a row without one was put in by a host of the version before and
-- has no line yet. `expires_at` is when a row ends that was not sent. `tried_at` is when the last try
-- began, `unsure` the number of tries of which nobody knows what came, `unsure_at` when the first of
-- them began. `verdict_due_at` is when WeChat is asked next what became of a message that it holds.
ALTER TABLE outbox ADD COLUMN fence BIGINT;
ALTER TABLE outbox ADD COLUMN expires_at BIGINT;
ALTER TABLE outbox ADD COLUMN tried_at BIGINT;
ALTER TABLE outbox ADD COLUMN unsure BIGINT;
ALTER TABLE outbox ADD COLUMN unsure_at BIGINT;
ALTER TABLE outbox ADD COLUMN verdict_due_at BIGINT;
CREATE INDEX outbox_open ON outbox (app_id, open_id, path, id) WHERE settled_at IS NULL;
CREATE INDEX outbox_without_line ON outbox (id) WHERE settled_at IS NULL AND fence IS NULL;
CREATE INDEX outbox_expiring ON outbox (expires_at) WHERE settled_at IS NULL;
CREATE INDEX outbox_held ON outbox (verdict_due_at) WHERE verdict_due_at IS NOT NULL;
CREATE INDEX outbox_held_of_person ON outbox (app_id, open_id) WHERE verdict_due_at IS NOT NULL;
CREATE INDEX outbox_by_msgid ON outbox (app_id, msgid) WHERE msgid IS NOT NULL;

-- `ends` is 1 where messages end rather than wait, because the account has no right to the API;
-- `errcode` is what WeChat said.
ALTER TABLE outbox_pauses ADD COLUMN ends BIGINT;
ALTER TABLE outbox_pauses ADD COLUMN errcode BIGINT;
CREATE INDEX outbox_pauses_by_end ON outbox_pauses (until_at);

-- When WeChat last said that it takes no customer-service message for this person (45015, 45047): from
-- then on the host knows what the person did before it came.
ALTER TABLE contacts ADD COLUMN refused_at BIGINT;
