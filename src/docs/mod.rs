//! The guide: pages about topics that concern several items.
//!
//! | page | answers |
//! | --- | --- |
//! | [`how_it_works`] | What happens to a token and to a request, and what are the defaults? |
//! | [`choosing`] | Which source fits my API? |
//! | [`platforms`] | How does a program use the identity of the place where it runs? |
//! | [`comparing`] | What do other libraries do, and where are they better? |
//! | [`migrating`] | How do I migrate from my own code, `reqwest-middleware` or `oauth2`? |
//! | [`composing`] | What is the right order of layers? |
//! | [`in_a_service`] | Where does a service keep the client, and what does it do at startup and shutdown? |
//! | [`testing`] | How do I test my own code without a network and without sleeping? |
//! | [`faults`] | What do callers see when something fails? |
//! | [`security`] | Which threats does the crate handle, and what do I have to do? |
//! | [`tenants`] | How does each of many tenants get its own token? |
//! | [`fleet`] | How do many processes share one token? |
//! | [`web_app`] | How does a web app get a token for each of its users? |
//! | [`watching`] | What is there for health checks, logs and metrics? |

#[doc = include_str!("how_it_works.md")]
pub mod how_it_works {}

#[doc = include_str!("choosing.md")]
pub mod choosing {}

#[doc = include_str!("platforms.md")]
pub mod platforms {}

#[doc = include_str!("comparing.md")]
pub mod comparing {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}

// Its examples need crates that the package itself is tested without: `tests/guide.rs` compiles them.
#[cfg_attr(not(doctest), doc = include_str!("composing.md"))]
pub mod composing {}

// The examples of `in_a_service` need such crates too.
#[cfg_attr(not(doctest), doc = include_str!("in_a_service.md"))]
pub mod in_a_service {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("faults.md")]
pub mod faults {}

#[doc = include_str!("security.md")]
pub mod security {}

#[cfg(feature = "tenants")]
#[doc = include_str!("tenants.md")]
pub mod tenants {}

#[cfg(feature = "fleet")]
#[doc = include_str!("fleet.md")]
pub mod fleet {}

#[cfg(all(feature = "authorization-code", feature = "fleet", feature = "tenants"))]
#[doc = include_str!("web_app.md")]
pub mod web_app {}

// The examples of `watching` also need other crates: `tests/guide.rs` compiles them.
#[cfg_attr(not(doctest), doc = include_str!("watching.md"))]
pub mod watching {}
