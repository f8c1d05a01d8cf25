//! The sample plugins as `cargo xtask plugins` leaves them, and variations of them.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// A sample plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    /// Answers text.
    Hello,
    /// Routes keywords and menu taps, and remembers.
    Desk,
    /// Composes a shop's notices.
    Orders,
    /// Decides on logins.
    Members,
    /// Sells in a chat.
    Shop,
    /// Misbehaves when told to.
    Rogue,
}

impl Plugin {
    /// The component.
    pub fn component(self) -> Result<Vec<u8>> {
        let name = match self {
            Self::Hello => "hello.wasm",
            Self::Desk => "desk.wasm",
            Self::Orders => "orders.wasm",
            Self::Members => "members.wasm",
            Self::Shop => "shop.wasm",
            Self::Rogue => "rogue.wasm",
        };
        let path = directory()?.join(name);
        std::fs::read(&path)
            .with_context(|| format!("no {}: run `cargo xtask plugins`", path.display()))
    }
}

/// The same component with another digest: a custom section that nothing reads is added.
#[must_use]
pub fn distinct(component: &[u8], number: u32) -> Vec<u8> {
    with_section(component, &number.to_le_bytes())
}

/// The same component, `bytes` longer.
#[must_use]
pub fn padded(component: &[u8], bytes: usize) -> Vec<u8> {
    with_section(component, &vec![0; bytes])
}

fn with_section(component: &[u8], content: &[u8]) -> Vec<u8> {
    const NAME: &[u8; 4] = b"test";
    let mut longer = component.to_vec();
    longer.push(0);
    let mut length = NAME.len() + 1 + content.len();
    // LEB128.
    while length >= 0x80 {
        longer.push((length % 0x80) as u8 | 0x80);
        length /= 0x80;
    }
    longer.push(length as u8);
    longer.push(NAME.len() as u8);
    longer.extend_from_slice(NAME);
    longer.extend_from_slice(content);
    longer
}

/// Where the target directory is: the grandparent of a test or bench executable's directory.
pub fn target_directory() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let target = executable
        .ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").exists())
        .context("the test executable is not in a cargo target directory")?;
    Ok(target.to_owned())
}

/// Where the sample plugins are: `WXHOST_PLUGINS`, or `plugins` in the target directory.
pub fn directory() -> Result<PathBuf> {
    match std::env::var_os("WXHOST_PLUGINS") {
        Some(directory) => Ok(directory.into()),
        None => Ok(target_directory()?.join("plugins")),
    }
}
