-- What was kept of an account in one row that everything wrote to: each part of the host has its own
-- table now. `accounts` keeps whose an account is, what it is called and whether it is served; its
-- `revision` goes up with every change to any of them.

-- How its callbacks come.
CREATE TABLE callback_settings (
    app_id TEXT PRIMARY KEY REFERENCES accounts (app_id) ON DELETE CASCADE,
    mode TEXT NOT NULL,
    token_sealed TEXT NOT NULL,
    aes_key_sealed TEXT,
    previous_aes_key_sealed TEXT,
    former_aes_key_sealed TEXT,
    window_seconds BIGINT NOT NULL,
    fallback_text TEXT
);
INSERT INTO callback_settings (app_id, mode, token_sealed, aes_key_sealed, previous_aes_key_sealed,
    former_aes_key_sealed, window_seconds, fallback_text)
SELECT app_id, mode, token_sealed, aes_key_sealed, previous_aes_key_sealed, former_aes_key_sealed,
    window_seconds, fallback_text
FROM accounts;

-- How it calls WeChat. `token_line` is 'stable' or 'classic'; `attention` is JSON (errcode, message,
-- since_ms), NULL while nothing is wrong; `jssdk_origins` is a JSON list.
CREATE TABLE credential_settings (
    app_id TEXT PRIMARY KEY REFERENCES accounts (app_id) ON DELETE CASCADE,
    secret_sealed TEXT,
    token_line TEXT NOT NULL,
    attention TEXT,
    jssdk_origins TEXT NOT NULL
);
INSERT INTO credential_settings (app_id, secret_sealed, token_line, attention, jssdk_origins)
SELECT app_id, secret_sealed, token_line, attention, jssdk_origins FROM accounts;

-- What serves it. `grants` is JSON: api (path prefixes), egress (hosts).
CREATE TABLE plugin_settings (
    app_id TEXT PRIMARY KEY REFERENCES accounts (app_id) ON DELETE CASCADE,
    active_version BIGINT,
    grants TEXT NOT NULL
);
INSERT INTO plugin_settings (app_id, active_version, grants)
SELECT app_id, active_version, grants FROM accounts;

ALTER TABLE accounts DROP COLUMN mode;
ALTER TABLE accounts DROP COLUMN token_sealed;
ALTER TABLE accounts DROP COLUMN aes_key_sealed;
ALTER TABLE accounts DROP COLUMN previous_aes_key_sealed;
ALTER TABLE accounts DROP COLUMN former_aes_key_sealed;
ALTER TABLE accounts DROP COLUMN window_seconds;
ALTER TABLE accounts DROP COLUMN fallback_text;
ALTER TABLE accounts DROP COLUMN secret_sealed;
ALTER TABLE accounts DROP COLUMN token_line;
ALTER TABLE accounts DROP COLUMN attention;
ALTER TABLE accounts DROP COLUMN jssdk_origins;
ALTER TABLE accounts DROP COLUMN active_version;
ALTER TABLE accounts DROP COLUMN grants;
