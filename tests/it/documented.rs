//! What the documentation says is so, and its examples run.

pub(crate) mod examples;
mod faults;
pub(crate) mod page;
mod pages;
mod public;
mod readme;
