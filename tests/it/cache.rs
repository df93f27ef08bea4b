//! One token for all callers: fetched, refreshed, refused, expired, and shared with other
//! processes.

mod as_source;
mod background_refresh;
mod clock;
#[cfg(feature = "fleet")]
mod coordinator;
mod expiry;
mod failure;
mod quota;
mod readiness;
mod reentrancy;
mod refresh_hints;
mod refusal_budget;
mod shutdown;
mod single_flight;
mod state_machine;
mod status;
mod telemetry;
