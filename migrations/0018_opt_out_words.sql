-- The words by which contacts stop and resume an account's messages, with what is answered: JSON. NULL where
-- such words are the plugin's, like all others.
ALTER TABLE callback_settings ADD COLUMN opt_out_words TEXT;
