//! Stores the frames that a tee records, in order and up to a limit of bytes.

use std::vec;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

/// Frames with fewer bytes are copied into one buffer. A clone of a frame takes 32 bytes and keeps
/// the frame's buffer alive. For a stream of single bytes, such clones would use many times the
/// body limit. Copying a small frame costs less than an allocation.
const SMALL: usize = 256;

/// The recorded frames of a body.
pub(super) struct RecordedFrames {
    parts: Vec<Part>,
    /// The number of bytes that may still be recorded.
    left: usize,
}

/// One or more recorded frames.
pub(super) enum Part {
    Data(Bytes),
    /// Small frames, joined into one buffer.
    Small(BytesMut),
    Trailers(HeaderMap),
}

impl RecordedFrames {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            parts: Vec::new(),
            left: limit,
        }
    }

    /// Records a frame. Returns `false` if the frame exceeds the limit or is of an unknown kind.
    /// Later versions of `http_body` may add kinds.
    pub(super) fn push(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            self.take_bytes(data.len()) && self.push_data(data)
        } else if let Some(trailers) = frame.trailers_ref() {
            self.take_bytes(size(trailers)) && self.push_trailers(trailers)
        } else {
            false
        }
    }

    fn take_bytes(&mut self, bytes: usize) -> bool {
        let Some(left) = self.left.checked_sub(bytes) else {
            return false;
        };
        self.left = left;
        true
    }

    fn push_data(&mut self, data: &Bytes) -> bool {
        match self.parts.last_mut() {
            // Skips an empty frame, because the limit doesn't bound the number of empty frames.
            _ if data.is_empty() => {}
            Some(Part::Small(last)) if data.len() < SMALL => last.extend_from_slice(data),
            _ if data.len() < SMALL => self.parts.push(Part::Small(BytesMut::from(&data[..]))),
            _ => self.parts.push(Part::Data(data.clone())),
        }
        true
    }

    fn push_trailers(&mut self, trailers: &HeaderMap) -> bool {
        self.parts.push(Part::Trailers(trailers.clone()));
        true
    }
}

fn size(trailers: &HeaderMap) -> usize {
    let sizes = trailers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    sizes.sum()
}

impl IntoIterator for RecordedFrames {
    type Item = Part;
    type IntoIter = vec::IntoIter<Part>;

    fn into_iter(self) -> Self::IntoIter {
        self.parts.into_iter()
    }
}

impl From<Part> for Frame<Bytes> {
    fn from(part: Part) -> Self {
        match part {
            Part::Data(data) => Frame::data(data),
            Part::Small(data) => Frame::data(data.freeze()),
            Part::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}
