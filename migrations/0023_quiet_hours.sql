-- When nobody is to be disturbed by pushes. Older hosts add accounts without a row, and heed none.
CREATE TABLE push_settings (
    app_id TEXT NOT NULL PRIMARY KEY REFERENCES accounts (app_id) ON DELETE CASCADE,
    -- JSON: from when to when, in which time zone.
    quiet_hours TEXT NOT NULL
);

-- 1 where a push does not wait for them.
ALTER TABLE pushes ADD COLUMN is_urgent BIGINT;
