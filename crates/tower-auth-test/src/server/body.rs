//! The body of a scripted response.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower_auth::BoxError;

/// The body of a [`ScriptedResponse`](crate::ScriptedResponse). It ends, stalls or breaks where the
/// response says.
#[derive(Debug)]
pub struct ScriptedBody {
    next: Bytes,
    then: Rest,
    /// The length that the client is told, in bytes. `None`: the headers tell it.
    announced: Option<u64>,
    /// How often the body is polled before it breaks.
    polls_before_reset: usize,
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
            polls_before_reset: 0,
        }
    }

    /// Lets the connection send the bytes before the body breaks. hyper keeps what it hasn't sent
    /// yet, and drops it when the body breaks.
    #[cfg(feature = "loopback")]
    pub(crate) fn flush_before_reset(&mut self) {
        self.polls_before_reset = 64;
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = std::mem::take(&mut self.next);
        if !next.is_empty() {
            if let Some(left) = &mut self.announced {
                *left -= next.len() as u64;
            }
            return Poll::Ready(Some(Ok(Frame::data(next))));
        }
        if matches!(self.then, Rest::Reset) && self.polls_before_reset > 0 {
            self.polls_before_reset -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
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
