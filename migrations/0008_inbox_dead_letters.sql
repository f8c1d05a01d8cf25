-- Events that cannot be run again end as dead letters, with their body; what a call read of a contact
-- is checked before its effects are committed.

-- `lease_owner` is new for each lease: who comes back to a row that another host has taken since finds
-- that it is not his any more. `reason` says why a row is `dead`.
ALTER TABLE inbox ADD COLUMN lease_owner TEXT;
ALTER TABLE inbox ADD COLUMN reason TEXT;
CREATE INDEX inbox_dead ON inbox (app_id, event_id) WHERE state = 'dead';

-- Fresh for each change that an effect makes to a contact; 0 before the first.
ALTER TABLE contacts ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
