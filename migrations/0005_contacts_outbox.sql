-- People who met an account, what may be sent to them, and what waits to be sent.

-- One row per person and account. Times are Unix milliseconds by WeChat's clock where an event told
-- them. `open_id` is ASCII in BYTEA: lists are in the same order in both databases.
--
-- The last columns are the ledger of customer-service messages: a scene is open for some time after
-- `last_…_at` (`menu_granted_at`: not every tap of a menu counts), and `…_used` counts what was sent
-- since. `to_fetch` is 1 while an import still has to ask WeChat about the person.
CREATE TABLE contacts (
    app_id TEXT NOT NULL,
    open_id BYTEA NOT NULL,
    union_id TEXT,
    following BIGINT,
    following_at BIGINT,
    first_seen_at BIGINT NOT NULL,
    followed_at BIGINT,
    unfollowed_at BIGINT,
    qr_scene TEXT,
    tags TEXT NOT NULL,
    remark TEXT NOT NULL,
    attributes TEXT NOT NULL,
    opted_out_at BIGINT,
    last_message_at BIGINT,
    last_menu_at BIGINT,
    last_scan_at BIGINT,
    last_follow_at BIGINT,
    last_payment_at BIGINT,
    menu_granted_at BIGINT,
    message_used BIGINT NOT NULL,
    menu_used BIGINT NOT NULL,
    scan_used BIGINT NOT NULL,
    follow_used BIGINT NOT NULL,
    payment_used BIGINT NOT NULL,
    to_fetch BIGINT NOT NULL,
    PRIMARY KEY (app_id, open_id)
);
CREATE INDEX contacts_to_fetch ON contacts (app_id, open_id) WHERE to_fetch = 1;

-- The import of an account's followers. `due_at` is when a host has to look at it next: while one is
-- at work (`lease_owner`), when its lease runs out.
CREATE TABLE follower_imports (
    app_id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    total BIGINT NOT NULL,
    listed BIGINT NOT NULL,
    fetched BIGINT NOT NULL,
    next_open_id TEXT NOT NULL,
    all_listed BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    error TEXT,
    due_at BIGINT NOT NULL,
    lease_owner TEXT,
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    finished_at BIGINT
);

-- What waits to be sent, and what came of it. The first outbox held late answers only, and nothing
-- sent them. `id` sorts by time. `due_at` is when a host has to look at a row next: when it is to be
-- sent, or, while a host has leased it, when that lease runs out. `reserved` is 1 when the contact's
-- ledger has counted the message. `settled_at` is there once `state` is final.
DROP INDEX outbox_by_state;
ALTER TABLE outbox RENAME TO outbox_before;
CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    app_id TEXT NOT NULL,
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
    UNIQUE (app_id, event_id, ordinal)
);
INSERT INTO outbox (id, app_id, event_id, ordinal, kind, open_id, path, payload, state, due_at,
    attempts, reserved, trace_id, created_at)
SELECT id, app_id, event_id, 0, kind, open_id, '/cgi-bin/message/custom/send', payload, 'waiting',
    created_at, 0, 0, '', created_at
FROM outbox_before;
DROP TABLE outbox_before;
CREATE INDEX outbox_due ON outbox (app_id, due_at) WHERE settled_at IS NULL;
CREATE INDEX outbox_by_contact ON outbox (app_id, open_id, id) WHERE settled_at IS NULL;
CREATE INDEX outbox_by_account ON outbox (app_id, id);
CREATE INDEX outbox_by_age ON outbox (settled_at);

-- Accounts (or one API of an account) for which nothing is sent until a time: a quota is used up, the
-- account needs its owner. An empty path stands for all.
CREATE TABLE outbox_pauses (
    app_id TEXT NOT NULL,
    path TEXT NOT NULL,
    until_at BIGINT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (app_id, path)
);
