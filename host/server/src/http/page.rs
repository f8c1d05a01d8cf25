//! A page of a list: so many items, and the cursor of the next page where there is one.

use super::error::ApiError;

/// Items of a page, where the caller does not say.
const ITEMS: u32 = 50;

/// Items of a page at most.
const MAX_ITEMS: u32 = 200;

/// How many items a page has.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSize(u32);

/// A page.
#[derive(Debug)]
pub(super) struct Page<T, C> {
    /// Its items.
    pub(super) items: Vec<T>,
    /// Where the next one begins; nothing on the last one.
    pub(super) next: Option<C>,
}

impl PageSize {
    /// What a caller asks for.
    ///
    /// # Errors
    /// None, or too many.
    pub(super) fn of(limit: Option<u32>) -> Result<Self, ApiError> {
        match limit.unwrap_or(ITEMS) {
            limit @ 1..=MAX_ITEMS => Ok(Self(limit)),
            _ => Err(ApiError::invalid(
                "limit",
                format_args!("must be 1 to {MAX_ITEMS}"),
            )),
        }
    }

    /// For a list that makes its pages itself.
    pub(super) fn items(self) -> u32 {
        self.0
    }

    /// How many rows to ask for: one more than the page has, which tells whether there is a next one.
    pub(super) fn rows(self) -> u32 {
        self.0 + 1
    }

    /// Makes a page of [`rows`](Self::rows). The last item's cursor is where the next page begins.
    pub(super) fn page<T, C>(self, mut rows: Vec<T>, cursor: impl Fn(&T) -> C) -> Page<T, C> {
        let more = rows.len() > self.0 as usize;
        rows.truncate(self.0 as usize);
        let next = rows.last().filter(|_| more).map(cursor);
        Page { items: rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_the_last_one_has_no_cursor() {
        let size = PageSize::of(Some(2)).unwrap();
        assert_eq!(size.rows(), 3);
        for (rows, items, next) in [
            (vec![], vec![], None),
            (vec![1], vec![1], None),
            (vec![1, 2], vec![1, 2], None),
            (vec![1, 2, 3], vec![1, 2], Some(20)),
        ] {
            let page = size.page(rows, |item| item * 10);
            assert_eq!((page.items, page.next), (items, next));
        }
    }

    #[test]
    fn a_page_of_nothing_or_of_everything_is_refused() {
        assert_eq!(PageSize::of(None).unwrap().items(), ITEMS);
        for limit in [0, MAX_ITEMS + 1] {
            assert_eq!(
                PageSize::of(Some(limit)).unwrap_err().code(),
                "invalid-field"
            );
        }
    }
}
