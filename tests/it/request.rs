//! The life of one request: stamped, sent, refused, sent once more.

mod allocations;
mod layer;
mod origins;
mod readiness;
mod refusals;
mod replay;
mod step_up;
mod types;
