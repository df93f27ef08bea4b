//! An allocator for tests that looks for secrets in each block of memory that is freed.
//!
//! A test that uses this crate gets the allocator. [`watch`] runs code, and returns the freed blocks
//! that contained a secret. A block that grows or shrinks always moves, so its old memory is freed.
//! Other allocators may do the same.

mod allocator;
mod inspection;

pub use inspection::{FreedSecret, join_watch, look_for, unwatched, watch};

#[global_allocator]
static ALLOCATOR: allocator::Inspecting = allocator::Inspecting;
