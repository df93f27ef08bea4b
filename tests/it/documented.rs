//! What the documentation says is so, and its examples run.

pub(crate) mod examples;
mod faults;
mod guide;
mod public_api;
mod readme;
