-- The tables of wxhost. One dialect for PostgreSQL and SQLite: BIGINT, TEXT and BYTEA only; booleans
-- are 0 or 1, times are Unix milliseconds, documents are JSON text. See README.md beside this file.

-- One row. Every change to a tenant, account or deployment raises `revision`; hosts watch it.
CREATE TABLE meta (
    id BIGINT PRIMARY KEY,
    revision BIGINT NOT NULL
);
INSERT INTO meta (id, revision) VALUES (1, 0);

CREATE TABLE tenants (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    max_concurrent_calls BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);

-- `*_sealed` columns are AES-GCM boxes under the master key (server::seal).
CREATE TABLE accounts (
    app_id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    original_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    token_sealed TEXT NOT NULL,
    aes_key_sealed TEXT,
    previous_aes_key_sealed TEXT,
    window_seconds BIGINT NOT NULL,
    fallback_text TEXT,
    status TEXT NOT NULL,
    active_version BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
CREATE INDEX accounts_by_tenant ON accounts (tenant_id);
CREATE INDEX accounts_by_revision ON accounts (revision);

-- A component, once, whoever uses it.
CREATE TABLE plugins (
    digest TEXT PRIMARY KEY,
    component BYTEA NOT NULL,
    size BIGINT NOT NULL,
    handlers TEXT NOT NULL,
    imports TEXT NOT NULL,
    config_schema TEXT,
    created_at BIGINT NOT NULL
);

-- A component with its settings, for one account. Never changed once written.
CREATE TABLE deployments (
    app_id TEXT NOT NULL REFERENCES accounts (app_id),
    version BIGINT NOT NULL,
    digest TEXT NOT NULL REFERENCES plugins (digest),
    config TEXT NOT NULL,
    secrets_sealed TEXT NOT NULL,
    limits TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, version)
);

-- What plugins remember. `version` is fresh for each write and never comes back. `key` is UTF-8 in
-- BYTEA: both databases then compare keys byte by byte, whatever collation they were set up with.
CREATE TABLE kv (
    app_id TEXT NOT NULL,
    key BYTEA NOT NULL,
    value BYTEA NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, key)
);

-- Events whose effects are committed, or that were acknowledged before their run ended. The primary
-- key is what makes effects happen once. `event` is sealed; it is there while `state` is 'pending'.
CREATE TABLE inbox (
    app_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    state TEXT NOT NULL,
    event TEXT,
    answer TEXT,
    lease_until BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, event_id)
);
CREATE INDEX inbox_by_state ON inbox (state, lease_until);
CREATE INDEX inbox_by_age ON inbox (created_at);

-- Messages that wait to be sent.
CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    app_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    open_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (app_id, event_id, kind)
);
CREATE INDEX outbox_by_state ON outbox (state, created_at);

-- One row per call of a plugin.
CREATE TABLE calls (
    id TEXT PRIMARY KEY,
    app_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    event_kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    version BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT,
    log TEXT,
    duration_us BIGINT NOT NULL,
    runs BIGINT NOT NULL,
    trace_id TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX calls_by_account ON calls (app_id, created_at);
CREATE INDEX calls_by_age ON calls (created_at);
