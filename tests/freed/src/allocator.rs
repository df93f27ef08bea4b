//! The allocator. This is the only file of the workspace with unsafe code.

use std::alloc::{GlobalAlloc, Layout, System};
use std::slice;

use crate::inspection::inspect;

/// The system's allocator, with an inspection of each block before the block is freed.
///
/// The default `realloc` allocates, copies and frees. So each block that changes its size is freed.
pub(crate) struct Inspecting;

// SAFETY: the system's allocator does all the work.
unsafe impl GlobalAlloc for Inspecting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Zeroes each block. Otherwise, a block could contain what an earlier block left.
        // SAFETY: the caller keeps the contract of `alloc`, which the system's allocator also has.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Only texts and buffers of bytes have this alignment. In another block, such as a boxed
        // future, unused bytes may be a copy of an old part of the stack.
        if layout.align() == 1 {
            // SAFETY: no other code uses the block now, and `alloc` has initialized its bytes.
            inspect(unsafe { slice::from_raw_parts(block, layout.size()) });
        }
        // SAFETY: the block comes from the system's allocator, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}
