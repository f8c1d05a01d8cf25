//! A plugin's native code, with what is to be known of it before it is loaded. In one piece, so that what
//! authenticates the code authenticates the rest.

use crate::demands::Demands;

/// The two numbers before the native code, little-endian `u64`.
const HEAD_BYTES: usize = 16;

/// What the compiler makes of a component.
#[derive(Debug, Clone)]
pub(crate) struct Artifact(Vec<u8>);

impl Artifact {
    pub(crate) fn new(demands: &Demands, native: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + native.len());
        bytes.extend(demands.instance_bytes().to_le_bytes());
        bytes.extend(demands.loaded_bytes().to_le_bytes());
        bytes.extend(native);
        Self(bytes)
    }

    /// None if there is no code in it.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() > HEAD_BYTES).then_some(Self(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What an instance takes of the host's memory before any meter of memory is asked.
    pub(crate) fn instance_bytes(&self) -> usize {
        self.number(0)
    }

    /// About what the loaded plugin takes of the host's memory beside its native code.
    pub(crate) fn loaded_bytes(&self) -> usize {
        self.number(8)
    }

    pub(crate) fn native(&self) -> &[u8] {
        self.0.get(HEAD_BYTES..).unwrap_or_default()
    }

    fn number(&self, at: usize) -> usize {
        let bytes = self.0.get(at..).and_then(<[u8]>::first_chunk);
        let number = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        usize::try_from(number).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_survives_its_bytes() {
        let artifact = Artifact::new(&Demands::default(), b"native");
        let again = Artifact::from_bytes(artifact.as_bytes().to_vec()).unwrap();
        assert_eq!(again.native(), b"native");
        assert_eq!(again.instance_bytes(), 0);
        assert!(again.loaded_bytes() > 0);
        assert!(Artifact::from_bytes(vec![0; HEAD_BYTES]).is_none());
    }
}
