//! The plugin's own log, kept with the record of the call for the tenant to read: at most 200 lines and
//! 32 KiB a call, 4 KiB a line. Put no secrets and no more of what users write than is needed.

use crate::host;

pub use crate::bindings::wxhost::plugin::log::Level;

/// Steps, for the author.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message);
}

/// What happened.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message);
}

/// Something odd that was coped with.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message);
}

/// Something that failed.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message);
}

/// Writes a line of the given level.
pub fn write(level: Level, message: impl AsRef<str>) {
    host::log::write(level, message.as_ref());
}
