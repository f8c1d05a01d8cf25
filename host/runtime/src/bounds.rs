//! Sizes that several rooms must agree on: what the pool has room for is what the check lets in and what
//! the meters start from.

use std::time::Duration;

/// The largest upload. A JavaScript plugin with its engine has 12 MiB, a Python one 18 MiB; a Rust one
/// has 0.02.
pub const MAX_UPLOAD_BYTES: usize = 32 << 20;

/// How often a running guest is looked at. It gives way to other work as often.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The most memory that any plugin may have, whatever its limits say: the size of a pool's slot.
///
/// It also bounds how long a guest may run without a look at it: wasmtime does not interrupt a copy or a
/// fill. To fill all of it took 0.35 s on a busy machine of two cores, mostly for the pages that were
/// touched first, and 64 MiB, the usual limit, took 0.07 s. Tables are small: to copy one of the most
/// elements took 9 ms. Whoever has taken so long gives way for as long (`call::on_tick`).
pub(crate) const MAX_MEMORY_BYTES: usize = 256 << 20;
/// The memories of a component: a composed one has one for each part.
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 4;
/// The tables of a component: its own functions, the lowered imports, and as many again for each part.
pub(crate) const TABLES_PER_COMPONENT: u32 = 8;
/// The core modules of a component: `wit-component` makes three of one, linking tools make dozens.
pub(crate) const CORE_INSTANCES_PER_COMPONENT: u32 = 64;
/// The elements of a table: the biggest that was met (a JavaScript engine) has about 20,000.
pub(crate) const TABLE_ELEMENTS: usize = 64 * 1024;

/// Handles to resources that a call may hold (WASI's streams and pollables).
pub(crate) const HANDLES: usize = 1000;
