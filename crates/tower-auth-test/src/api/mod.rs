//! A fake API that requires a token.

mod access;
mod refusal;
mod server;

pub use refusal::Refusal;
pub use server::Api;
