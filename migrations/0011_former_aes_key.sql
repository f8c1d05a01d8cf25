-- The EncodingAESKey before the last change, sealed for this column: a box of it does not open as the
-- present key. Takes the place of previous_aes_key_sealed, whose boxes were sealed like the present
-- key's; hosts of the version before go on reading and writing that one.
ALTER TABLE accounts ADD COLUMN former_aes_key_sealed TEXT;
