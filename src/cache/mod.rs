//! Caches a token, decides whether the token is still usable, and fetches the next token.

pub(crate) mod single_flight;

pub(crate) mod expiry;
pub(crate) mod failure_backoff;
pub(crate) mod quota_tracker;
pub(crate) mod refusal_budget;
pub(crate) mod refusal_evidence;
pub(crate) mod refusal_history;
pub(crate) mod status;

pub(crate) mod state_machine;

pub(crate) mod published_state;

pub(crate) mod telemetry;

#[cfg(feature = "fleet")]
pub(crate) mod observed_store;

#[cfg(feature = "fleet")]
pub(crate) mod fleet_coordinator;

pub(crate) mod task_slot;

pub(crate) mod cache_inner;

pub(crate) mod fetch_task;

pub(crate) mod background_refresh;
pub(crate) mod shutdown;

pub(crate) mod acquire;
pub(crate) mod builder;

pub(crate) mod token_cache;

pub use crate::clock::{Clock, ManualClock, Moment};
pub use crate::quota::Quota;
pub use acquire::Acquire;
pub use builder::TokenCacheBuilder;
pub use status::{Phase, Status};
