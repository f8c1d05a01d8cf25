-- What tenants' own systems call the host with, and who did what.

-- A key itself is shown once and never stored: `digest` is its SHA-256 in hex. `app_ids` and `grants`
-- are JSON lists; without `app_ids` a key reaches every account of its tenant. Only `revoked_at` and
-- `last_used_at` ever change, and the latter does not raise `revision`.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    app_ids TEXT,
    grants TEXT NOT NULL,
    rate_per_minute BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    last_used_at BIGINT,
    revision BIGINT NOT NULL
);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, created_at);
CREATE INDEX api_keys_by_revision ON api_keys (revision);

-- `actor` is `admin` or the id of an API key; `object` is what it was done to beside the account, such
-- as a forwarded path. Never a secret.
CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    app_id TEXT,
    object TEXT NOT NULL,
    result TEXT NOT NULL,
    request_id TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX audit_by_age ON audit (created_at, id);
CREATE INDEX audit_by_account ON audit (app_id, created_at);
CREATE INDEX audit_by_actor ON audit (actor, created_at);
