-- Pushes: what a tenant's system asks to be sent to many people.

-- One row for each request. `content` is JSON, what is sent in the order in which it is tried. `state` is
-- 'running', 'paused', 'cancelled' or 'done'. An audience is taken over in blocks: `audience` is NULL once
-- all of it stands in blocks, `taken_to` the open id after which it goes on. `request_digest` tells a
-- repetition from another request under the same key.
CREATE TABLE pushes (
    app_id TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    content TEXT NOT NULL,
    state TEXT NOT NULL,
    idempotency_key TEXT,
    request_digest TEXT NOT NULL,
    audience TEXT,
    taken_to BYTEA NOT NULL,
    expires_at BIGINT NOT NULL,
    recipients BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    unsure BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX pushes_by_key ON pushes (app_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX pushes_running ON pushes (app_id, id) WHERE state = 'running';
CREATE INDEX pushes_ended ON pushes (ended_at) WHERE ended_at IS NOT NULL;

-- At most 500 recipients, a line each in `open_ids` and in `results`, where an empty line is one that
-- waits. `open` counts those. Before recipients are sent to, their places are noted (`noted_from` to
-- `noted_to`, `noted_at`): who finds them noted and without a result knows that they may have been sent to.
CREATE TABLE push_blocks (
    app_id TEXT NOT NULL,
    push_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    open_ids TEXT NOT NULL,
    results TEXT NOT NULL,
    open BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    noted_from BIGINT,
    noted_to BIGINT,
    noted_at BIGINT,
    PRIMARY KEY (app_id, push_id, number)
);
CREATE INDEX push_blocks_open ON push_blocks (app_id, push_id, number) WHERE open > 0;

-- One row for each account that has something to push: one host at a time has its lease, so that it is
-- paced exactly. `fence` goes up with each lease, `asked` with each push that is put in.
CREATE TABLE push_lanes (
    app_id TEXT PRIMARY KEY,
    due_at BIGINT NOT NULL,
    lease_owner TEXT,
    fence BIGINT NOT NULL,
    asked BIGINT NOT NULL
);
CREATE INDEX push_lanes_due ON push_lanes (due_at);
