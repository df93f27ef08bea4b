//! One fetch at a time, and one result for all who wait: the cache without Tower.

mod abandoned;
mod failing_sources;
mod runtimes;
mod waiters;
