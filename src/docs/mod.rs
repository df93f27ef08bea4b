//! The guide: pages that go further than one item's documentation.
//!
//! | page | for whoever asks |
//! | --- | --- |
//! | [`how_it_works`] | what happens to a token and to a request, and with which defaults |
//! | [`choosing`] | which source brings what their API asks for |
//! | [`migrating`] | how to get here from code by hand, `reqwest-middleware` or `oauth2` |
//! | [`composing`] | in which order to put the layer among others |
//! | [`in_a_service`] | where to keep the client, and what to do at startup and shutdown |
//! | [`faults`] | what callers see when something goes wrong |
//! | [`security`] | what is done about which threat, and what stays with them |
//! | [`fleet`] | how many processes get by on one token |
//! | [`watching`] | what there is for health checks, logs and metrics |

#[doc = include_str!("how_it_works.md")]
pub mod how_it_works {}

#[doc = include_str!("choosing.md")]
pub mod choosing {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}

// Its examples need crates that the package itself is tested without: `tests/guide.rs` compiles them.
#[cfg_attr(not(doctest), doc = include_str!("composing.md"))]
pub mod composing {}

// As `composing`.
#[cfg_attr(not(doctest), doc = include_str!("in_a_service.md"))]
pub mod in_a_service {}

#[doc = include_str!("faults.md")]
pub mod faults {}

#[doc = include_str!("security.md")]
pub mod security {}

#[cfg(feature = "fleet")]
#[doc = include_str!("fleet.md")]
pub mod fleet {}

#[doc = include_str!("watching.md")]
pub mod watching {}
