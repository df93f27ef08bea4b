//! Keys, and what is signed with them.

#[cfg(feature = "jwt")]
pub(crate) mod pem;

#[cfg(feature = "jwt")]
pub(crate) mod key_pair;

#[cfg(feature = "jwt")]
pub(crate) mod jwk;

#[cfg(feature = "jwt")]
pub(crate) mod signing_key;

#[cfg(feature = "jwt")]
pub(crate) mod signed_jwt;
