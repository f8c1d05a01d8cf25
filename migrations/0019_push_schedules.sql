-- Pushes that recur: each firing makes a push of `content` to `open_ids` (a line each) or to `audience`. Whoever
-- moves `next_at` on makes the push in the same transaction, so a firing happens once. `missed` says what
-- becomes of firings that no host was there for: 'skip' or 'once'. `next_at` is NULL when there is none more.
CREATE TABLE push_schedules (
    app_id TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    content TEXT NOT NULL,
    open_ids TEXT NOT NULL,
    audience TEXT,
    reference TEXT,
    cron TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    missed TEXT NOT NULL,
    state TEXT NOT NULL,
    next_at BIGINT,
    last_push_id TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE INDEX push_schedules_due ON push_schedules (next_at) WHERE state = 'active' AND next_at IS NOT NULL;
