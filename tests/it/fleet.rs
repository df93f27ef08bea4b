//! Processes share a token through a store. The tests also cover the stores.

mod codec;
mod keyring;
mod processes;
mod store;
