//! Pages that go further than one item's documentation.

#[doc = include_str!("composing.md")]
pub mod composing {}

#[doc = include_str!("faults.md")]
pub mod faults {}

#[cfg(feature = "fleet")]
#[cfg_attr(docsrs, doc(cfg(feature = "fleet")))]
#[doc = include_str!("fleet.md")]
pub mod fleet {}

#[doc = include_str!("watching.md")]
pub mod watching {}
