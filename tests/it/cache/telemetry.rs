//! What a cache logs and counts.

mod logs;
#[cfg(feature = "metrics")]
mod metrics;
