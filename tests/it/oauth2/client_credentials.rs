//! What the client credentials grant asks for, of whom, and in which words.

mod addresses;
#[cfg(feature = "reqwest")]
mod over_reqwest;
mod parameters;
mod transports;
