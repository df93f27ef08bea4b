//! The guide pages whose examples need more crates than the root package has.

#[cfg(all(doctest, feature = "reqwest", feature = "tonic"))]
#[doc = include_str!("../src/docs/composing.md")]
mod composing {}

#[cfg(all(
    doctest,
    feature = "reqwest",
    feature = "serde",
    feature = "tenants",
    feature = "tonic"
))]
#[doc = include_str!("../src/docs/in_a_service.md")]
mod in_a_service {}

#[cfg(doctest)]
#[doc = include_str!("../src/docs/watching.md")]
mod watching {}
