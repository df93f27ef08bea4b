//! One fetch runs at a time, and all waiting callers get its result. These tests use the cache
//! without Tower.

mod abandoned;
mod failing_sources;
mod runtimes;
mod waiters;
