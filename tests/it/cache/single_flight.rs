//! One token, one flight, one result: the cache without Tower.

mod abandoned;
mod failing_sources;
mod runtimes;
mod waiters;
