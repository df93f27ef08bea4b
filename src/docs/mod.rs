//! Pages that go further than one item's documentation.

#[doc = include_str!("faults.md")]
pub mod faults {}

#[doc = include_str!("watching.md")]
pub mod watching {}
