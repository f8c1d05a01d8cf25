-- Hosts whose address WeChat refuses for an account, as each host reports it for itself. A host that is
-- gone reports no more, and its rows are forgotten by `seen_at`.
CREATE TABLE address_refusals (
    app_id TEXT NOT NULL REFERENCES accounts (app_id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    -- As WeChat names it; empty where it does not.
    address TEXT NOT NULL,
    errcode BIGINT NOT NULL,
    message TEXT NOT NULL,
    since_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, host)
);
CREATE INDEX address_refusals_by_host ON address_refusals (host);
CREATE INDEX address_refusals_by_age ON address_refusals (seen_at);
