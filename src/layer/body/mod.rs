//! Records a request's body, so that a refused request can be sent again.
//!
//! There are three kinds of bodies:
//!
//! - A body in memory is cloned ([`bodies`]).
//! - A stream is sent through a [`tee`]. The tee records the frames that the first try reads
//!   ([`recorded`]), up to a limit. The second try sends these frames, and then the rest of the
//!   stream.
//! - Other bodies are sent once.

pub(crate) mod recorded;

pub(crate) mod tee;

pub(crate) mod replay;

mod bodies;
#[cfg(feature = "reqwest")]
mod reqwest;
