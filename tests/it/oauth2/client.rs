//! The client as the authorization server knows it: how it authenticates, which certificate it has,
//! and how it revokes tokens.

mod assertion;
#[cfg(feature = "jwt")]
mod assertion_audience;
mod authentication;
#[cfg(feature = "reqwest")]
mod mtls;
mod revocation;
