//! Fake sources of tokens.

mod controlled;
mod scripted;

pub use controlled::{ControlledSource, Fetch, Fetches, controlled_source};
pub use scripted::{ScriptedSource, Step};
