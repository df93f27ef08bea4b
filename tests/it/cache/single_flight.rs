//! One fetch at a time, with one result for all waiting callers. These tests use the cache without
//! Tower.

mod abandoned;
mod failing_sources;
mod runtimes;
mod waiters;
