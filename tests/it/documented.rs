//! What the documentation says is so, and its examples run.

mod examples;
mod faults;
mod floors;
pub(crate) mod page;
mod pages;
mod public;
mod readme;
mod telemetry;
mod words;
