//! One token, one flight, one result: the cache without Tower.

mod refreshes;
mod runtimes;
mod sources;
mod waiters;
