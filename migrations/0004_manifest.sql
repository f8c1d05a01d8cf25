-- What a plugin says of itself and asks for (`plugin.toml`), as JSON; NULL when it says nothing.
ALTER TABLE plugins ADD COLUMN manifest TEXT;
