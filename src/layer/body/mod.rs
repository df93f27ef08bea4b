//! Whether a request's body can be sent twice, and what is kept of it for that.
//!
//! A request that is refused is sent once more, and its body with it. Three kinds of bodies:
//!
//! - One that is in memory is cloned ([`bodies`]).
//! - One that is a stream is teed ([`tee`]): what the first try read of it is kept ([`recorded`]), up
//!   to a limit, and what it didn't read is still there to be read.
//! - One that is neither is sent once.

pub(crate) mod recorded;

pub(crate) mod tee;

pub(crate) mod replay;

mod bodies;
#[cfg(feature = "reqwest")]
mod reqwest;
