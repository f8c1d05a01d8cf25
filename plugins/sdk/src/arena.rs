//! The allocator of a plugin: it only ever moves forward.
//!
//! The host makes a fresh instance for each event and drops it whole afterwards. So freeing memory
//! piece by piece is wasted work, and an allocation can be an addition and a comparison. Two cheap
//! cases are kept because strings and vectors live by them: the newest block grows and shrinks in
//! place, and freeing it gives its bytes back.
//!
//! What a call costs the host depends more on two numbers than on what the plugin does:
//!
//! * The initial memory. The host wipes it after each call: 64 KiB more are about 1 µs more, of 5 µs.
//!   But when memory has to grow, the host changes page protections, once to grow it and once to shrink
//!   it for the next instance: about 8 µs. So it has to be small and yet enough. Stack, data and
//!   [`ARENA_BYTES`] = 24 KiB are put into the fewest pages of 64 KiB, and what the last page leaves over
//!   is used too: a plugin with less than 8 KiB of data (no JSON, say) has one page, and 24 to 32 KiB to
//!   allocate; with `serde_json` it has two pages, and 75 KiB or more. The sample `hello` takes 0.4 KiB
//!   for a text message, `desk` with its example settings 3 KiB.
//! * The stack: 32 KiB (`-zstack-size` in `.cargo/config.toml`; the linker's default is 1 MiB). It lies
//!   below the data, so an overflow traps and overwrites nothing. `hello` uses 2 KiB of it and `desk`,
//!   which parses JSON, 4 KiB.
//!
//! What needs more gets it from `memory.grow`, [`GROWTH_BYTES`] at a time, up to the limit that the host
//! sets.

use std::alloc::Layout;

/// What an event finds ready at least.
#[cfg(target_arch = "wasm32")]
const ARENA_BYTES: usize = 24 * 1024;

/// What memory grows by at least: 1 MiB, so that a hungry call grows a few times rather
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
    use core::arch::wasm32::memory_grow;
    use core::cell::UnsafeCell;
    use core::ptr;

    /// The size of a WebAssembly page.
    const PAGE_BYTES: usize = 64 * 1024;

    /// What `memory.grow` answers when the host says no.
    const REFUSED: usize = usize::MAX;

    unsafe extern "C" {
        /// Where the linker ends its own data; only its address means something.
        static __heap_base: u8;
    }

    /// Aligned as strictly as plugins ask for, so that the arena starts with no gap.
    #[repr(align(16))]
    struct Bytes(UnsafeCell<[u8; ARENA_BYTES]>);

    // SAFETY: an instance has one thread.
    unsafe impl Sync for Bytes {}

    static BYTES: Bytes = Bytes(UnsafeCell::new([0; ARENA_BYTES]));

    #[global_allocator]
    static ALLOCATOR: Arena = Arena(UnsafeCell::new(Region { top: 0, end: 0 }));

    /// The allocator: a region that moves on when it is full. First it is empty, then it is the arena,
    /// then the rest of the last page of the initial memory, then what memory grows by.
    struct Arena(UnsafeCell<Region>);

    // SAFETY: an instance has one thread.
    unsafe impl Sync for Arena {}

    /// Moves the region on until the block fits; null if the host refuses more memory.
    #[cold]
    fn take_elsewhere(region: &mut Region, layout: Layout) -> *mut u8 {
        while let Some((start, size)) = next_stretch(region, layout) {
            region.add(start, size);
            if let Some(start) = region.take(layout) {
                return ptr::with_exposed_provenance_mut(start);
            }
        }
        ptr::null_mut()
    }

    /// Where the region goes on: an address and a size.
    fn next_stretch(region: &Region, layout: Layout) -> Option<(usize, usize)> {
        let arena = BYTES.0.get().expose_provenance();
        if region.end == 0 {
            return Some((arena, ARENA_BYTES));
        }
        let data_end = (&raw const __heap_base).expose_provenance();
        let rest = data_end.next_multiple_of(PAGE_BYTES) - data_end;
        if region.end == arena + ARENA_BYTES && rest > 0 {
            return Some((data_end, rest));
        }
        grow(layout)
    }

    /// Grows memory generously, or else by what the block needs.
    fn grow(layout: Layout) -> Option<(usize, usize)> {
        let needed = layout
            .size()
            .saturating_add(layout.align())
            .div_ceil(PAGE_BYTES);
        let generous = needed.max(GROWTH_BYTES / PAGE_BYTES);
        [generous, needed].into_iter().find_map(|pages| {
            let before = memory_grow::<0>(pages);
            (before != REFUSED).then(|| (before * PAGE_BYTES, pages * PAGE_BYTES))
        })
    }

    // SAFETY: blocks come from the arena, from the rest of its page or from grown memory, which nothing else uses; `Region` hands
    // out each address once until its block is given back, aligned and inside its bounds.
    unsafe impl GlobalAlloc for Arena {
        #[inline]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: one thread, and no other reference is alive while an allocation runs.
            let region = unsafe { &mut *self.0.get() };
            match region.take(layout) {
                Some(start) => ptr::with_exposed_provenance_mut(start),
                None => take_elsewhere(region, layout),
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
