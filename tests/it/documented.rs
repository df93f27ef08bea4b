//! What the documentation says is so, and its examples run.

mod examples;
mod faults;
mod floors;
