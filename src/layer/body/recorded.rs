//! The frames that a tee keeps: in their order, and never more of them than a limit.

use std::vec;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

/// A frame below this is copied to the end of the one before it. To keep it on its own would cost
/// its clone's 32 bytes and its buffer, so that a stream of single bytes would hold many times the
/// limit; to copy it costs less than to allocate.
const SMALL: usize = 256;

pub(super) struct Kept {
    parts: Vec<Part>,
    room: usize,
}

pub(super) enum Part {
    Data(Bytes),
    /// Frames that were small, put together.
    Small(BytesMut),
    Trailers(HeaderMap),
}

impl Kept {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            parts: Vec::new(),
            room: limit,
        }
    }

    /// Keeps a frame, or says that it can't: there is no room, or it is of a kind that came to
    /// `http_body` after this was written and can't be sent again.
    pub(super) fn push(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            self.take_room(data.len()) && self.push_data(data)
        } else if let Some(trailers) = frame.trailers_ref() {
            self.take_room(size(trailers)) && self.push_trailers(trailers)
        } else {
            false
        }
    }

    fn take_room(&mut self, bytes: usize) -> bool {
        let Some(room) = self.room.checked_sub(bytes) else {
            return false;
        };
        self.room = room;
        true
    }

    fn push_data(&mut self, data: &Bytes) -> bool {
        match self.parts.last_mut() {
            // It says nothing, and any number of them would fit.
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

impl IntoIterator for Kept {
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
