//! Implements [`Replay`] for reqwest's body, in memory or as a stream.

use std::fmt;
use std::mem;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::Body as _;
use http_body_util::BodyExt;
use http_body_util::combinators::MapErr;
use reqwest::Body;

use super::replay::Replay;
use super::tee::{Recording, tee};
use crate::error::BoxError;

/// A body that is in memory isn't turned into a stream, neither in the first request nor in the
/// replay. The reason is that reqwest itself can send only such a body again. It does so after a
/// 307 or 308 redirect, and on a new connection if the server closed the old one.
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
        let (tee, recording) = tee(stream, limit);
        *self = Self::wrap(tee);
        Some(Copy::Stream(recording))
    }

    fn replay(copy: Copy) -> Option<Self> {
        match copy {
            Copy::Memory(bytes) => Some(Self::from(bytes)),
            Copy::Stream(recording) => recording.replay(Some(BoxError::from)).map(Self::wrap),
        }
    }
}

/// A body whose errors are boxed. Only reqwest can create a `reqwest::Error`, but `reqwest::Body`
/// accepts any error.
type Stream = MapErr<Body, fn(reqwest::Error) -> BoxError>;

/// The recorded part of a reqwest body.
pub enum Copy {
    /// The body is in memory, or empty.
    Memory(Bytes),
    /// The body is a stream.
    Stream(Recording<Stream>),
}

/// Omits the bytes, because they may contain the caller's secrets.
impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory(_) => "Memory",
            Self::Stream(_) => "Stream",
        })
    }
}

/// Takes the bytes of a body in memory without copying them.
///
/// Such a body returns all its bytes as one frame. If a later version of reqwest splits the bytes
/// into several frames, this function copies all frames.
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
