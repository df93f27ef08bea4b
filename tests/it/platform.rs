//! Identities that the platform gives to a program.

#[cfg(all(feature = "command", unix))]
mod command;

#[cfg(feature = "gcp")]
mod gcp;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(feature = "vault")]
mod vault;
