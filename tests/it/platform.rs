//! Identities that the platform gives to a program.

#[cfg(feature = "azure")]
mod azure;
#[cfg(all(feature = "command", unix))]
mod command;
#[cfg(feature = "gcp")]
mod gcp;
#[cfg(feature = "github")]
mod github;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(feature = "vault")]
mod vault;
