-- What an account needs to call WeChat: its AppSecret, which token call it uses, and whether its owner
-- must mend something first; and what the operator allows its plugin and its web pages.

ALTER TABLE accounts ADD COLUMN secret_sealed TEXT;
-- 'stable' or 'classic'.
ALTER TABLE accounts ADD COLUMN token_line TEXT NOT NULL DEFAULT 'stable';
-- JSON: errcode, message, since_ms. NULL while nothing is wrong.
ALTER TABLE accounts ADD COLUMN attention TEXT;
-- JSON: api (path prefixes), egress (hosts).
ALTER TABLE accounts ADD COLUMN grants TEXT NOT NULL DEFAULT '{}';
-- JSON: a list of origins.
ALTER TABLE accounts ADD COLUMN jssdk_origins TEXT NOT NULL DEFAULT '[]';
