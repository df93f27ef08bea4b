//! The pages of the guide whose examples need more crates than the package itself is tested with.

#[cfg(all(doctest, feature = "reqwest", feature = "tonic"))]
#[doc = include_str!("../src/docs/composing.md")]
mod composing {}
