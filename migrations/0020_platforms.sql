-- Third-party platforms (第三方平台) and the accounts that let them serve them. Columns named `platform` hold
-- a component appid.
CREATE TABLE platforms (
    app_id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    -- Where the platform's one start-page domain leads: to this host.
    public_url TEXT NOT NULL,
    secret_sealed TEXT NOT NULL,
    token_sealed TEXT NOT NULL,
    aes_key_sealed TEXT NOT NULL,
    former_aes_key_sealed TEXT,
    -- JSON: what the operator must mend before WeChat gives the platform tokens again.
    attention TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);

-- What WeChat pushes every ten minutes; the one before is good, too. Apart from `platforms`: nobody has to
-- read those again for it. `told_at` is WeChat's time, in milliseconds.
CREATE TABLE platform_tickets (
    platform TEXT NOT NULL PRIMARY KEY REFERENCES platforms (app_id) ON DELETE CASCADE,
    ticket_sealed TEXT NOT NULL,
    told_at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    former_sealed TEXT,
    former_told_at BIGINT,
    -- When WeChat was last asked to push tickets again.
    asked_at BIGINT
);

-- What WeChat tells at the event URL, tickets aside, until it is done; then for people to look at.
CREATE TABLE platform_events (
    platform TEXT NOT NULL REFERENCES platforms (app_id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    app_id TEXT,
    told_at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    body_sealed TEXT NOT NULL,
    -- 'due', 'done' or 'failed'.
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    -- While a host has it, when its lease ends.
    due_at BIGINT NOT NULL,
    lease_owner TEXT,
    error TEXT,
    PRIMARY KEY (platform, id)
);
CREATE INDEX platform_events_due ON platform_events (due_at) WHERE state = 'due';
CREATE INDEX platform_events_by_age ON platform_events (platform, received_at);

-- Authorisation codes, by their hashes: each is exchanged once, whether the event or the redirect brings it
-- first. 'taken' until `leased_until`, then 'done' or 'failed'.
CREATE TABLE authorisation_codes (
    platform TEXT NOT NULL REFERENCES platforms (app_id) ON DELETE CASCADE,
    hash TEXT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    leased_until BIGINT NOT NULL,
    app_id TEXT,
    error TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (platform, hash)
);
CREATE INDEX authorisation_codes_by_age ON authorisation_codes (created_at);

-- What each account has granted. `version` is raised by whatever changes the refresh token, which is
-- written where the version is the one that was read. `told_at` is WeChat's time of the last word about it.
CREATE TABLE authorisations (
    app_id TEXT NOT NULL,
    platform TEXT NOT NULL REFERENCES platforms (app_id) ON DELETE CASCADE,
    -- 'standing' or 'withdrawn'.
    state TEXT NOT NULL,
    version BIGINT NOT NULL,
    refresh_token_sealed TEXT,
    former_refresh_token_sealed TEXT,
    -- JSON: ids of permission sets.
    permission_sets TEXT NOT NULL,
    told_at BIGINT NOT NULL,
    -- JSON: what the account is, as WeChat tells.
    facts TEXT,
    facts_at BIGINT,
    -- For whom an account is to be made, and by which invitation; nobody has claimed it where it is NULL.
    tenant_id TEXT,
    invitation TEXT,
    -- When a host looks at it next; while one has it, when its lease ends.
    due_at BIGINT,
    attempts BIGINT NOT NULL,
    lease_owner TEXT,
    error TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, platform)
);
CREATE INDEX authorisations_due ON authorisations (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX authorisations_of_platform ON authorisations (platform, app_id);

-- Links by which a tenant's customers let a platform serve their account, each for one account.
CREATE TABLE invitations (
    platform TEXT NOT NULL REFERENCES platforms (app_id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    -- SHA-256 of what stands in the link, in hex.
    digest TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The one account that is meant; any where it is NULL.
    biz_app_id TEXT,
    -- The account whose settings, plugin and quotas the new one gets.
    like_app_id TEXT,
    -- 'open', 'used' or 'revoked'.
    state TEXT NOT NULL,
    app_id TEXT,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT,
    PRIMARY KEY (platform, id)
);
CREATE UNIQUE INDEX invitations_by_digest ON invitations (platform, digest);

-- Visits of invitations, each with its own pre_auth_code: that or the state leads back to the invitation.
CREATE TABLE invitation_visits (
    platform TEXT NOT NULL REFERENCES platforms (app_id) ON DELETE CASCADE,
    state_digest TEXT NOT NULL,
    pre_auth_digest TEXT NOT NULL,
    invitation TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (platform, state_digest)
);
CREATE UNIQUE INDEX invitation_visits_by_pre_auth ON invitation_visits (platform, pre_auth_digest);
CREATE INDEX invitation_visits_by_age ON invitation_visits (created_at);

-- How far the list of a platform's authorisers has been read.
CREATE TABLE platform_imports (
    platform TEXT NOT NULL PRIMARY KEY REFERENCES platforms (app_id) ON DELETE CASCADE,
    -- 'running', 'done' or 'failed'.
    state TEXT NOT NULL,
    -- Whose the accounts become; they wait to be claimed where it is NULL.
    tenant_id TEXT,
    next_offset BIGINT NOT NULL,
    total BIGINT NOT NULL,
    listed BIGINT NOT NULL,
    added BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    lease_owner TEXT,
    error TEXT,
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- The platform that serves an account, which calls WeChat by its authorisation then; NULL where it does by
-- its own AppSecret.
ALTER TABLE credential_settings ADD COLUMN platform TEXT;
CREATE INDEX credential_settings_of_platform ON credential_settings (platform) WHERE platform IS NOT NULL;

-- The account whose settings, plugin and quotas a tenant's invited accounts get.
ALTER TABLE tenants ADD COLUMN like_app_id TEXT;
