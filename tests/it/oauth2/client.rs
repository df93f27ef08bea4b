//! The client as the authorization server knows it: its authentication, its certificate, and how it
//! revokes tokens.

mod assertion;
mod authentication;
#[cfg(feature = "reqwest")]
mod mtls;
mod revocation;
