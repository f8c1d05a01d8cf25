//! The allocator of a plugin: it only ever moves forward.
//!
//! The host makes a fresh instance for each event and drops it whole afterwards. So freeing memory
//! piece by piece is wasted work, and an allocation can be an addition and a comparison. Two cheap
//! cases are kept because strings and vectors live by them: the newest block grows and shrinks in
//! place, and freeing it gives its bytes back.
//!
//! Two numbers decide what a call costs the host, more than the plugin's own work does:
//!
//! * [`ARENA_BYTES`] = 64 KiB, in the plugin's initial memory. `memory.grow` makes the host change
//!   page protections, once to grow and once to shrink the memory for the next instance: about 8 µs
//!   of the 23 µs that a call of an ordinary guest takes. An event with its settings, two reads and a
//!   reply needs 2 to 20 KiB, so nearly all calls never grow. More than that would be paid by all:
//!   the host wipes the initial memory after each call (192 KiB in place of 64: 7.2 µs in place of
//!   5.3 µs a call).
//! * The stack of 32 KiB (`-zstack-size` in `.cargo/config.toml`; the linker's default is 1 MiB). It
//!   lies below the data, so an overflow traps instead of overwriting it. Handlers and `serde_json`
//!   use less than 8 KiB. Together, stack, data and arena are the two pages (128 KiB) that the host
//!   keeps resident for every slot of its pool.
//!
//! What doesn't fit the arena comes from `memory.grow`, [`GROWTH_BYTES`] at a time, up to the limit
//! that the host sets.

use std::alloc::Layout;

/// Bytes that an event finds ready.
#[cfg(target_arch = "wasm32")]
const ARENA_BYTES: usize = 64 * 1024;

/// What memory grows by when the arena is full: 1 MiB, so that a hungry call grows a few times rather
/// than for each page.
#[cfg(target_arch = "wasm32")]
const GROWTH_BYTES: usize = 1024 * 1024;

/// A stretch of addresses that is handed out from its lower end.
#[derive(Debug)]
struct Region {
    /// The first free address.
    top: usize,
    /// The address after the last one.
    end: usize,
}

impl Region {
    /// Takes a block; its address.
    #[inline]
    fn take(&mut self, layout: Layout) -> Option<usize> {
        let start = self.top.checked_next_multiple_of(layout.align())?;
        let end = start.checked_add(layout.size())?;
        if end > self.end {
            return None;
        }
        self.top = end;
        Some(start)
    }

    /// Takes a block back if it is the newest.
    #[inline]
    fn give_back(&mut self, start: usize, size: usize) {
        if start + size == self.top {
            self.top = start;
        }
    }

    /// Makes a block longer or shorter where it stands; false if something lies in the way.
    #[inline]
    fn resize(&mut self, start: usize, size: usize, new_size: usize) -> bool {
        if start + size != self.top {
            return new_size <= size;
        }
        match start.checked_add(new_size) {
            Some(end) if end <= self.end => {
                self.top = end;
                true
            }
            _ => false,
        }
    }

    /// Adds a stretch: it prolongs this one if they touch, and replaces it if they don't.
    fn add(&mut self, start: usize, size: usize) {
        if start != self.end {
            self.top = start;
        }
        self.end = start.saturating_add(size);
    }
}

#[cfg(target_arch = "wasm32")]
mod guest {
    #![expect(
        unsafe_code,
        reason = "a global allocator; an instance has one thread, so nothing here is shared"
    )]

    use super::{ARENA_BYTES, GROWTH_BYTES, Region};
    use core::alloc::{GlobalAlloc, Layout};
    use core::arch::wasm32::{memory_grow, memory_size};
    use core::cell::UnsafeCell;
    use core::ptr;

    /// The size of a WebAssembly page.
    const PAGE_BYTES: usize = 64 * 1024;

    /// The unit that `memory.grow` answers when the host says no.
    const REFUSED: usize = usize::MAX;

    /// Bytes with the strictest alignment that plugins ask for, so that the arena starts with no gap.
    #[repr(align(16))]
    struct Bytes(UnsafeCell<[u8; ARENA_BYTES]>);

    // SAFETY: an instance has one thread.
    unsafe impl Sync for Bytes {}

    static BYTES: Bytes = Bytes(UnsafeCell::new([0; ARENA_BYTES]));

    #[global_allocator]
    static ALLOCATOR: Arena = Arena(UnsafeCell::new(Region { top: 0, end: 0 }));

    /// The allocator: a region that starts as the arena and moves into grown memory when that is full.
    struct Arena(UnsafeCell<Region>);

    // SAFETY: an instance has one thread.
    unsafe impl Sync for Arena {}

    impl Arena {
        /// Finds room where the region has none.
        #[cold]
        fn take_elsewhere(&self, region: &mut Region, layout: Layout) -> *mut u8 {
            if region.end == 0 {
                region.add(BYTES.0.get().addr(), ARENA_BYTES);
                if let Some(start) = region.take(layout) {
                    return ptr::with_exposed_provenance_mut(start);
                }
            }
            if !extend(region, layout) {
                return ptr::null_mut();
            }
            region
                .take(layout)
                .map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
        }
    }

    /// Grows memory so that a block fits; false if the host refuses.
    fn extend(region: &mut Region, layout: Layout) -> bool {
        let needed = layout
            .size()
            .saturating_add(layout.align())
            .div_ceil(PAGE_BYTES);
        let generous = needed.max(GROWTH_BYTES / PAGE_BYTES);
        for pages in [generous, needed] {
            let start = memory_size::<0>() * PAGE_BYTES;
            if memory_grow::<0>(pages) != REFUSED {
                region.add(start, pages * PAGE_BYTES);
                return true;
            }
        }
        false
    }

    // SAFETY: blocks come from the arena or from grown memory, which nothing else uses; `Region` hands
    // out each address once until its block is given back, aligned and inside its bounds.
    unsafe impl GlobalAlloc for Arena {
        #[inline]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: one thread, and no other reference is alive while an allocation runs.
            let region = unsafe { &mut *self.0.get() };
            match region.take(layout) {
                Some(start) => ptr::with_exposed_provenance_mut(start),
                None => self.take_elsewhere(region, layout),
            }
        }

        #[inline]
        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: as in `alloc`.
            let region = unsafe { &mut *self.0.get() };
            region.give_back(block.addr(), layout.size());
        }

        #[inline]
        unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: as in `alloc`.
            let region = unsafe { &mut *self.0.get() };
            if region.resize(block.addr(), layout.size(), new_size) {
                return block;
            }
            // SAFETY: the caller vouches for `new_size` with this alignment; the old block is as long
            // as its layout says, and the new one lies elsewhere.
            unsafe {
                let new_layout = Layout::from_size_align_unchecked(new_size, layout.align());
                let copy = self.alloc(new_layout);
                if !copy.is_null() {
                    ptr::copy_nonoverlapping(block, copy, layout.size().min(new_size));
                }
                copy
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Region;
    use std::alloc::Layout;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a valid layout")
    }

    #[test]
    fn blocks_follow_each_other_and_are_aligned() {
        let mut region = Region { top: 100, end: 200 };
        assert_eq!(region.take(layout(3, 1)), Some(100));
        assert_eq!(region.take(layout(8, 8)), Some(104));
        assert_eq!(region.take(layout(88, 8)), Some(112));
        assert_eq!(region.take(layout(1, 1)), None, "the region is full");
    }

    #[test]
    fn sizes_near_the_end_of_the_address_space_do_not_wrap() {
        let mut region = Region {
            top: usize::MAX - 8,
            end: usize::MAX,
        };
        assert_eq!(region.take(layout(64, 1)), None);
        assert_eq!(region.take(layout(1, 64)), None);
        assert!(!region.resize(usize::MAX - 16, 8, 64));
    }

    #[test]
    fn the_newest_block_grows_in_place_and_is_given_back() {
        let mut region = Region { top: 0, end: 100 };
        let old = region.take(layout(10, 1)).expect("room");
        let new = region.take(layout(10, 1)).expect("room");
        assert!(region.resize(new, 10, 50));
        assert!(!region.resize(new, 50, 91), "beyond the end");
        assert!(!region.resize(old, 10, 11), "another block lies behind it");
        assert!(region.resize(old, 10, 5), "shrinking needs no room");
        region.give_back(old, 5);
        assert_eq!(region.top, 60, "only the newest block is given back");
        region.give_back(new, 50);
        assert_eq!(region.take(layout(1, 1)), Some(10));
    }

    #[test]
    fn memory_that_touches_the_region_prolongs_it() {
        let mut region = Region { top: 40, end: 100 };
        region.add(100, 50);
        assert_eq!((region.top, region.end), (40, 150));
        region.add(500, 50);
        assert_eq!((region.top, region.end), (500, 550));
    }
}
