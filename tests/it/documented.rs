//! The statements of the documentation are true, and its examples run.

#[cfg(all(feature = "fleet", feature = "metrics"))]
mod dashboard;
mod examples;
mod faults;
mod floors;
mod front_door;
mod mistakes;
pub(crate) mod page;
mod pages;
mod pictures;
mod public;
mod readme;
mod telemetry;
mod widths;
mod words;
