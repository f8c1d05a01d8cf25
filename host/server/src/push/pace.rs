//! How many recipients of an account are sent to at once: more while WeChat takes what it is given, half
//! as many when it has trouble.

/// Recipients of the first window, and the fewest.
const FEWEST: usize = 16;
/// The most: what a host that dies leaves behind of a block as perhaps sent.
const MOST: usize = 256;

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
        let well = [true, true, true, true, true, true, false, false, true];
        let sizes = well.map(|well| {
            pace.learn(well);
            pace.size()
        });
        assert_eq!(sizes, [32, 64, 128, 256, 256, 256, 128, 64, 128]);
        (0..5).for_each(|_| pace.learn(false));
        assert_eq!(pace.size(), 16);
    }
}
