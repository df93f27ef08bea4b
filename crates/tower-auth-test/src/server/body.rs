//! The body of a scripted response.

use std::io;
use std::pin::Pin;
#[cfg(feature = "loopback")]
use std::task::ready;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower_auth::BoxError;

#[cfg(feature = "loopback")]
use super::flushes::{Flushes, TwoFlushes};

/// The body of a [`ScriptedResponse`](crate::ScriptedResponse). It ends, stalls or breaks where the
/// response says.
#[derive(Debug)]
pub struct ScriptedBody {
    next: Bytes,
    then: Rest,
    /// The length that the client is told, in bytes. `None`: the headers tell it.
    announced: Option<u64>,
    /// What the body waits for before it breaks.
    #[cfg(feature = "loopback")]
    sent: Option<TwoFlushes>,
}

/// What follows the last byte that is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rest {
    End,
    Stall,
    Reset,
}

impl ScriptedBody {
    /// Makes a body that sends only the first `sent` bytes before `then`.
    pub(crate) fn new(whole: &Bytes, sent: usize, then: Rest, announces_length: bool) -> Self {
        Self {
            next: whole.slice(..sent.min(whole.len())),
            then,
            announced: announces_length.then_some(whole.len() as u64),
            #[cfg(feature = "loopback")]
            sent: None,
        }
    }

    /// Lets the connection send the bytes before the body breaks.
    #[cfg(feature = "loopback")]
    pub(crate) fn flush_before_reset(&mut self, flushes: &Flushes) {
        self.sent = Some(flushes.wait_for_two());
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        #[cfg_attr(not(feature = "loopback"), allow(unused_variables))] cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = std::mem::take(&mut self.next);
        if !next.is_empty() {
            if let Some(left) = &mut self.announced {
                *left -= next.len() as u64;
            }
            return Poll::Ready(Some(Ok(Frame::data(next))));
        }
        #[cfg(feature = "loopback")]
        if matches!(self.then, Rest::Reset)
            && let Some(sent) = &mut self.sent
        {
            ready!(sent.poll(cx));
        }
        match std::mem::replace(&mut self.then, Rest::End) {
            Rest::End => Poll::Ready(None),
            Rest::Stall => {
                self.then = Rest::Stall;
                Poll::Pending
            }
            Rest::Reset => Poll::Ready(Some(Err(reset()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_empty() && matches!(self.then, Rest::End)
    }

    fn size_hint(&self) -> SizeHint {
        self.announced
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The error of a connection that the script resets.
pub(crate) fn reset() -> BoxError {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the connection was reset, as the script says",
    )
    .into()
}
