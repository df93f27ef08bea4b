//! Processes that share a token, and the stores by which they do.

mod codec;
mod keyring;
mod processes;
mod store;
