//! Identities that the platform gives to a program.

#[cfg(all(feature = "command", unix))]
mod command;

#[cfg(feature = "azure")]
mod azure;
