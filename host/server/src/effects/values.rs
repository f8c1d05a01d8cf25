//! Effects on the tenant's values: writes that the event's transaction applies.

use wxhost_runtime::effects as wit;

use crate::db::commit::{Expectation, Write};

/// What a put or a delete writes; the runtime has checked the key and the sizes.
pub(super) fn write(key: String, value: Option<Vec<u8>>, expect: wit::Expectation) -> Write {
    Write {
        key,
        value,
        expect: match expect {
            wit::Expectation::Any => Expectation::Any,
            wit::Expectation::Absent => Expectation::Absent,
            // A version that can't be ours fits nothing.
            wit::Expectation::Unchanged(version) => {
                Expectation::Unchanged(i64::try_from(version).unwrap_or(-1))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_cannot_be_the_hosts_fits_nothing() {
        for (version, expected) in [(7, 7), (u64::MAX, -1)] {
            let write = write("k".into(), None, wit::Expectation::Unchanged(version));
            assert_eq!(write.expect, Expectation::Unchanged(expected));
        }
    }
}
