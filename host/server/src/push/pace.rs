//! How many recipients of an account are sent to at once: more while WeChat takes what it is given, half
//! as many when it has trouble.

/// Recipients of the first window, and the fewest.
const FEWEST: usize = 8;
/// The most: what a host that dies leaves behind as perhaps sent.
const MOST: usize = 64;

/// The size of the next window.
#[derive(Debug)]
pub(super) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        Self(FEWEST)
    }
}

impl Pace {
    /// How many are sent to at once.
    pub(super) fn size(&self) -> usize {
        self.0
    }

    /// A window went well, or WeChat was too busy for some of it.
    pub(super) fn learn(&mut self, went_well: bool) {
        self.0 = if went_well { self.0 * 2 } else { self.0 / 2 };
        self.0 = self.0.clamp(FEWEST, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_all_goes_well_and_halves_in_trouble() {
        let mut pace = Pace::default();
        let sizes = [true, true, true, true, false, false, false, false].map(|well| {
            pace.learn(well);
            pace.size()
        });
        assert_eq!(sizes, [16, 32, 64, 64, 32, 16, 8, 8]);
    }
}
