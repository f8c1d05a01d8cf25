-- Users who log in to the pages of an account (网页授权).

-- How they do; nobody does where there is no row. Older hosts add accounts without one.
CREATE TABLE login_settings (
    app_id TEXT NOT NULL PRIMARY KEY REFERENCES accounts (app_id) ON DELETE CASCADE,
    -- JSON: where WeChat leads back to, where pages lie, how long a session lasts.
    login TEXT NOT NULL
);

-- Logins that came back with a code, by the hash of their state: each code is exchanged once, however often a
-- browser brings it and to whichever host. 'taken' until `leased_until`, then 'done' or 'failed'.
CREATE TABLE logins (
    app_id TEXT NOT NULL REFERENCES accounts (app_id) ON DELETE CASCADE,
    state_hash TEXT NOT NULL,
    code_hash TEXT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    leased_until BIGINT NOT NULL,
    -- JSON: who it is, and the ticket for the tenant's back end.
    result_sealed TEXT,
    error TEXT,
    ticket_hash TEXT,
    ticket_used_at BIGINT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, state_hash)
);
CREATE INDEX logins_by_ticket ON logins (app_id, ticket_hash);
CREATE INDEX logins_by_age ON logins (created_at);

-- The tokens by which an account reads the profiles of users who let it.
CREATE TABLE user_grants (
    app_id TEXT NOT NULL REFERENCES accounts (app_id) ON DELETE CASCADE,
    open_id TEXT NOT NULL,
    access_token_sealed TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    refresh_token_sealed TEXT NOT NULL,
    granted_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, open_id)
);
CREATE INDEX user_grants_by_age ON user_grants (granted_at);
