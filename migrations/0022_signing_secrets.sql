-- What requests are signed with that must not bear their key. Keys of before have none.
ALTER TABLE api_keys ADD COLUMN signing_secret_sealed TEXT;
