//! What a cache logs and counts.

mod granted_scope;
mod logs;
#[cfg(feature = "metrics")]
mod metrics;
mod shut_out;
