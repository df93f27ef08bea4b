//! A cache shares one token with all callers, and with other processes. It fetches, refreshes and
//! replaces the token.

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
