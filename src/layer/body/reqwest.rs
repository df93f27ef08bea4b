//! reqwest's body: in memory, or a stream whose errors can only be made by way of a box.

use std::fmt;
use std::mem;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::Body as _;
use http_body_util::BodyExt;
use http_body_util::combinators::MapErr;
use reqwest::Body;

use super::replay::Replay;
use super::tee::{Tape, tee};
use crate::error::BoxError;

/// A body in memory stays in memory in both tries, so that reqwest can still send it again of its
/// own accord: after a 307 or 308, or when the connection turned out to be closed.
impl Replay for Body {
    type Copy = Copy;

    fn record(&mut self, limit: usize) -> Option<Copy> {
        if let Some(bytes) = take_memory(self) {
            *self = Self::from(bytes.clone());
            return Some(Copy::Memory(bytes));
        }
        if self.is_end_stream() {
            return Some(Copy::Memory(Bytes::new()));
        }
        let stream: Stream = mem::take(self).map_err(BoxError::from);
        let (tee, tape) = tee(stream, limit);
        *self = Self::wrap(tee);
        Some(Copy::Stream(tape))
    }

    fn replay(copy: Copy) -> Option<Self> {
        match copy {
            Copy::Memory(bytes) => Some(Self::from(bytes)),
            Copy::Stream(tape) => tape.replay(Some(BoxError::from)).map(Self::wrap),
        }
    }
}

/// reqwest's errors can't be made, but its body takes any.
type Stream = MapErr<Body, fn(reqwest::Error) -> BoxError>;

/// What is kept of reqwest's body.
pub enum Copy {
    /// It is in memory, or empty.
    Memory(Bytes),
    /// What was read of a stream.
    Stream(Tape<Stream>),
}

/// The bytes are the caller's.
impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory(_) => "Memory",
            Self::Stream(_) => "Stream",
        })
    }
}

/// The bytes of a body that is in memory, without a copy of them: it gives them away when it is
/// read, at once and in one frame. A release of reqwest that cut them into frames would cost a
/// copy here, not the end of the body.
fn take_memory(body: &mut Body) -> Option<Bytes> {
    body.as_bytes()?;
    let bytes = match body.frame().now_or_never()? {
        Some(frame) => frame.ok()?.into_data().ok()?,
        None => Bytes::new(),
    };
    match body.as_bytes() {
        None | Some([]) => Some(bytes),
        Some(rest) => Some([&bytes, rest].concat().into()),
    }
}
