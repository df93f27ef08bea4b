//! Processes that share a token, and the stores through which they share it.

mod codec;
mod keyring;
mod processes;
mod store;
