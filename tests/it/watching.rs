//! What a cache tells of itself: its status, logs and metrics, and the page about them.

mod changes;
mod docs;
mod logs;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
mod status;
