-- Tables that grow begin their key with the account, so that accounts can be spread over several
-- databases one day; an index whose queries name a state holds the rows of that state only.

-- `id` sorts by time and is that of one row of the account.
ALTER TABLE outbox RENAME TO outbox_before;
CREATE TABLE outbox (
    app_id TEXT NOT NULL,
    id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    ordinal BIGINT NOT NULL,
    kind TEXT NOT NULL,
    open_id TEXT NOT NULL,
    path TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    due_at BIGINT NOT NULL,
    lease_owner TEXT,
    attempts BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    errcode BIGINT,
    errmsg TEXT,
    msgid TEXT,
    trace_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    settled_at BIGINT,
    fence BIGINT,
    expires_at BIGINT,
    tried_at BIGINT,
    unsure BIGINT,
    unsure_at BIGINT,
    verdict_due_at BIGINT,
    PRIMARY KEY (app_id, id),
    UNIQUE (app_id, event_id, ordinal)
);
INSERT INTO outbox (app_id, id, event_id, ordinal, kind, open_id, path, payload, state, reason, due_at,
    lease_owner, attempts, reserved, errcode, errmsg, msgid, trace_id, created_at, settled_at, fence,
    expires_at, tried_at, unsure, unsure_at, verdict_due_at)
SELECT app_id, id, event_id, ordinal, kind, open_id, path, payload, state, reason, due_at,
    lease_owner, attempts, reserved, errcode, errmsg, msgid, trace_id, created_at, settled_at, fence,
    expires_at, tried_at, unsure, unsure_at, verdict_due_at
FROM outbox_before;
DROP TABLE outbox_before;
-- The triggers that count its rows went with the table: a host makes them anew, and counts from the start.
DELETE FROM quota_use WHERE quota = 'waiting-messages';
CREATE INDEX outbox_open ON outbox (app_id, open_id, path, id) WHERE settled_at IS NULL;
CREATE INDEX outbox_without_line ON outbox (id) WHERE settled_at IS NULL AND fence IS NULL;
CREATE INDEX outbox_expiring ON outbox (expires_at) WHERE settled_at IS NULL;
CREATE INDEX outbox_held ON outbox (verdict_due_at) WHERE verdict_due_at IS NOT NULL;
CREATE INDEX outbox_held_of_person ON outbox (app_id, open_id) WHERE verdict_due_at IS NOT NULL;
CREATE INDEX outbox_by_msgid ON outbox (app_id, msgid) WHERE msgid IS NOT NULL;
CREATE INDEX outbox_by_age ON outbox (settled_at) WHERE settled_at IS NOT NULL;

-- A block is shown and let go by its `id` alone.
ALTER TABLE call_blocks RENAME TO call_blocks_before;
CREATE TABLE call_blocks (
    app_id TEXT NOT NULL,
    id TEXT NOT NULL,
    digest TEXT NOT NULL,
    version BIGINT NOT NULL,
    outcomes TEXT NOT NULL,
    records TEXT NOT NULL,
    PRIMARY KEY (app_id, id)
);
INSERT INTO call_blocks (app_id, id, digest, version, outcomes, records)
SELECT app_id, id, digest, version, outcomes, records FROM call_blocks_before;
DROP TABLE call_blocks_before;
CREATE INDEX call_blocks_by_age ON call_blocks (id);

-- `app_id` is empty where an entry is about no account.
ALTER TABLE audit RENAME TO audit_before;
CREATE TABLE audit (
    app_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    id TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    result TEXT NOT NULL,
    request_id TEXT NOT NULL,
    PRIMARY KEY (app_id, created_at, id)
);
INSERT INTO audit (app_id, created_at, id, actor, action, object, result, request_id)
SELECT COALESCE(app_id, ''), created_at, id, actor, action, object, result, request_id
FROM audit_before;
DROP TABLE audit_before;
CREATE INDEX audit_by_id ON audit (id);
CREATE INDEX audit_by_age ON audit (created_at, id);
CREATE INDEX audit_by_actor ON audit (actor, created_at);

-- Nearly all events are done: only those that wait are looked for by their lease.
DROP INDEX inbox_by_state;
CREATE INDEX inbox_pending ON inbox (lease_until) WHERE state = 'pending';

-- Nothing is in it since 0007.
DROP TABLE calls;
