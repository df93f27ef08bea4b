//! A body that is sent once and remembered, so that it can be sent again.
//!
//! ```text
//!            ┌────────── shared ──────────┐
//!   Tee ────▶│ source: the body itself    │◀──── Tape ── replay ─▶ Replayed
//!  (first    │ kept:   what the tee read  │    (the copy)         (second try:
//!   try)     └────────────────────────────┘                        kept, then source)
//! ```
//!
//! There is one stream and there are two that want it, perhaps on two threads. The rules:
//!
//! 1. The tee takes the body out of its place, polls it without the lock, and puts it back. No
//!    code of others runs under the lock: no poll, no wake, no drop of a body, a frame or a waker.
//! 2. From the moment of the replay, the stream belongs to the replayed body. Anything the tee
//!    had not returned by then, it doesn't return: it fails.
//! 3. If that moment falls into a poll, the replayed body gets what comes of the poll. It waits
//!    for it as a future does, no thread is blocked.
//! 4. The source is not polled again after its end or its error.

use std::error::Error as StdError;
use std::fmt;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::vec;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::recorded::{Kept, Part};

/// What a body's poll says.
type Polled<E> = Poll<Option<Result<Frame<Bytes>, E>>>;

/// Makes the error of a body whose stream is gone.
pub(super) type Fail<E> = fn(Gone) -> E;

/// Why a body fails though its stream didn't.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gone {
    /// The request was refused before it was sent, and the rest of the body goes out with its
    /// second try.
    Replayed,
    /// The stream panicked.
    Panicked,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replayed => "the request was refused and its body is sent again",
            Self::Panicked => "the request body panicked",
        })
    }
}

impl StdError for Gone {}

/// Puts a tee in front of `body` that keeps at most `limit` bytes of it.
pub(super) fn tee<B: Body>(body: B, limit: usize) -> (Tee<B>, Tape<B>) {
    let hint = body.size_hint();
    let state = TeeState {
        source: Source::Here(body),
        first: First::Alive,
        kept: Some(Kept::new(limit)),
        waker: None,
    };
    let shared = Arc::new(SharedBody(Mutex::new(state)));
    let tape = Tape {
        shared: Arc::clone(&shared),
        hint,
    };
    let tee = Tee {
        shared,
        hint,
        ended: false,
    };
    (tee, tape)
}

struct SharedBody<B: Body>(Mutex<TeeState<B>>);

struct TeeState<B: Body> {
    source: Source<B>,
    first: First<B::Error>,
    /// `None`: too much, or an error or a panic was seen, or nobody wants it any more.
    kept: Option<Kept>,
    /// The tee's, to be told that it was overtaken; after that the replayed body's, if it waits
    /// for the source.
    waker: Option<Waker>,
}

enum Source<B: Body> {
    Here(B),
    /// The tee is polling it at this moment.
    Out,
    /// The tee was overtaken while it polled, and this is the replayed body's.
    Returned(Returned<B>),
    Ended,
}

/// What came of a poll that was overtaken.
struct Returned<B: Body> {
    item: Option<Result<Frame<Bytes>, B::Error>>,
    /// `None`: it is at its end.
    body: Option<B>,
}

/// The first try's tee.
enum First<E> {
    Alive,
    Dropped,
    Overtaken(Fail<E>),
}

impl<B: Body> SharedBody<B> {
    /// Nothing panics under this lock (rule 1), and if it did, each change leaves a whole state.
    fn lock(&self) -> MutexGuard<'_, TeeState<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of the first try.
pub(super) struct Tee<B: Body> {
    shared: Arc<SharedBody<B>>,
    /// As of the last poll: to ask the source itself would be to run its code under the lock.
    hint: SizeHint,
    ended: bool,
}

impl<B> Body for Tee<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled<B::Error> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut body = match self.take_out() {
            Ok(Some(body)) => body,
            Ok(None) => return Poll::Ready(None),
            Err(fail) => return Poll::Ready(Some(Err(fail(Gone::Replayed)))),
        };
        // The source is used after a panic only by a caller that polls after a panic, who would
        // do the same without a tee.
        let polled = panic::catch_unwind(AssertUnwindSafe(|| {
            let polled = Pin::new(&mut body).poll_frame(cx);
            let ended = is_over(&polled, &body);
            let waker = polled.is_pending().then(|| cx.waker().clone());
            (polled, ended, body.size_hint(), waker)
        }));
        let (polled, ended, hint, waker) = match polled {
            Ok(polled) => polled,
            Err(panic) => {
                self.put_back_panicked(body);
                panic::resume_unwind(panic)
            }
        };
        match self.put_back(polled, body, ended, waker) {
            Ok(polled) => {
                self.hint = hint;
                self.ended = ended;
                polled
            }
            Err(fail) => Poll::Ready(Some(Err(fail(Gone::Replayed)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

impl<B: Body> Tee<B> {
    fn take_out(&self) -> Result<Option<B>, Fail<B::Error>> {
        let mut state = self.shared.lock();
        if let First::Overtaken(fail) = state.first {
            return Err(fail);
        }
        match mem::replace(&mut state.source, Source::Out) {
            Source::Here(body) => Ok(Some(body)),
            other => {
                state.source = other;
                Ok(None)
            }
        }
    }

    /// What the tee returns: what was polled, unless it was overtaken in the meantime.
    fn put_back(
        &self,
        polled: Polled<B::Error>,
        body: B,
        ended: bool,
        mut waker: Option<Waker>,
    ) -> Result<Polled<B::Error>, Fail<B::Error>> {
        // A body that ended is dropped last of all, and so is the old waker.
        let (body, _ended) = if ended {
            (None, Some(body))
        } else {
            (Some(body), None)
        };
        let mut state = self.shared.lock();
        if let First::Overtaken(fail) = state.first {
            let item = match polled {
                Poll::Ready(item) => item,
                Poll::Pending => None,
            };
            state.source = Source::Returned(Returned { item, body });
            let waiting = state.waker.take();
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
            return Err(fail);
        }
        state.source = body.map_or(Source::Ended, Source::Here);
        mem::swap(&mut state.waker, &mut waker);
        let dropped = state.keep(&polled);
        drop(state);
        drop(dropped);
        Ok(polled)
    }

    /// There is no telling what a source that panicked says next, so it isn't replayed.
    fn put_back_panicked(&self, body: B) {
        let mut state = self.shared.lock();
        if let First::Overtaken(fail) = state.first {
            let item = Some(Err(fail(Gone::Panicked)));
            state.source = Source::Returned(Returned { item, body: None });
            let waiting = state.waker.take();
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
            return;
        }
        state.source = Source::Here(body);
        let dropped = state.kept.take();
        drop(state);
        drop(dropped);
    }
}

impl<B: Body> TeeState<B> {
    /// Keeps what the tee is about to return. What is no longer kept comes back, to be dropped
    /// outside the lock.
    #[must_use]
    fn keep(&mut self, polled: &Polled<B::Error>) -> Option<Kept> {
        let fits = match polled {
            Poll::Ready(Some(Ok(frame))) => self.kept.as_mut()?.push(frame),
            Poll::Ready(Some(Err(_))) => false,
            Poll::Ready(None) | Poll::Pending => true,
        };
        if fits { None } else { self.kept.take() }
    }
}

impl<B: Body> Drop for Tee<B> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        // Once overtaken, the waker is the replayed body's.
        if let First::Alive = state.first {
            state.first = First::Dropped;
            let waker = state.waker.take();
            drop(state);
            drop(waker);
        }
    }
}

/// What it takes to send a body again that went through a [`Tee`].
pub struct Tape<B: Body> {
    shared: Arc<SharedBody<B>>,
    /// Of the whole body.
    hint: SizeHint,
}

impl<B: Body> Tape<B> {
    /// The body again. `fail` makes the error of a tee that is overtaken; without it, none is.
    pub(super) fn replay(self, fail: Option<Fail<B::Error>>) -> Option<Replayed<B>> {
        let mut state = self.shared.lock();
        // Looked at here and taken below: it must not be dropped under the lock.
        state.kept.as_ref()?;
        let is_unfinished = matches!(state.source, Source::Here(_) | Source::Out);
        let mut overtaken = None;
        if is_unfinished && matches!(state.first, First::Alive) {
            state.first = First::Overtaken(fail?);
            overtaken = state.waker.take();
        }
        let rest = match mem::replace(&mut state.source, Source::Ended) {
            Source::Here(body) => Rest::Here(body),
            Source::Out => {
                state.source = Source::Out;
                Rest::Awaited(Arc::clone(&self.shared))
            }
            Source::Returned(..) | Source::Ended => Rest::Ended,
        };
        let kept = state.kept.take();
        drop(state);
        overtaken.into_iter().for_each(Waker::wake);
        Some(Replayed {
            kept: kept?.into_iter(),
            rest,
            hint: self.hint,
        })
    }
}

/// No replay comes any more, so nothing need be kept for it.
impl<B: Body> Drop for Tape<B> {
    fn drop(&mut self) {
        let kept = self.shared.lock().kept.take();
        drop(kept);
    }
}

impl<B: Body> fmt::Debug for Tape<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").finish_non_exhaustive()
    }
}

/// The body of the second try: what was kept, then what the tee didn't read.
pub(super) struct Replayed<B: Body> {
    kept: vec::IntoIter<Part>,
    rest: Rest<B>,
    /// What the first try said at its start, less what was sent since. If the length wasn't known
    /// then, it isn't now, so that both tries are framed alike: a body that now had a
    /// `content-length` would lose its trailers over HTTP/1.
    hint: SizeHint,
}

enum Rest<B: Body> {
    Here(B),
    /// The tee was polling the source when it was overtaken, and gives it up when it is done.
    Awaited(Arc<SharedBody<B>>),
    Ended,
}

impl<B> Body for Replayed<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled<B::Error> {
        let polled = match self.kept.next() {
            Some(part) => Poll::Ready(Some(Ok(part.into()))),
            None => self.rest.poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.hint = less(self.hint, data.len());
        }
        polled
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }

    fn is_end_stream(&self) -> bool {
        self.kept.as_slice().is_empty() && self.rest.is_end_stream()
    }
}

impl<B> Rest<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled<B::Error> {
        if let Self::Awaited(shared) = self {
            let Some(Returned { item, body }) = shared.poll_returned(cx) else {
                return Poll::Pending;
            };
            *self = body.map_or(Self::Ended, Self::Here);
            if item.is_some() {
                return Poll::Ready(item);
            }
        }
        let Self::Here(body) = self else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        let ended = is_over(&polled, body);
        if ended {
            *self = Self::Ended;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Here(body) => body.is_end_stream(),
            Self::Awaited(_) => false,
            Self::Ended => true,
        }
    }
}

impl<B: Body> SharedBody<B> {
    /// `None` while the tee still polls; the waker is then told when it is done.
    fn poll_returned(&self, cx: &Context<'_>) -> Option<Returned<B>> {
        // Cloned before the lock and the old one dropped after it.
        let mut waker = Some(cx.waker().clone());
        let mut state = self.lock();
        let returned = match mem::replace(&mut state.source, Source::Ended) {
            Source::Returned(returned) => Some(returned),
            other => {
                state.source = other;
                mem::swap(&mut state.waker, &mut waker);
                None
            }
        };
        drop(state);
        drop(waker);
        returned
    }
}

/// Whether a body must not be polled again, or need not.
fn is_over<B: Body<Data = Bytes>>(polled: &Polled<B::Error>, body: &B) -> bool {
    match polled {
        Poll::Ready(Some(Ok(_))) => body.is_end_stream(),
        Poll::Ready(None | Some(Err(_))) => true,
        Poll::Pending => false,
    }
}

fn less(hint: SizeHint, sent: usize) -> SizeHint {
    let sent = sent as u64;
    let mut left = SizeHint::new();
    if let Some(upper) = hint.upper() {
        left.set_upper(upper.saturating_sub(sent));
    }
    left.set_lower(hint.lower().saturating_sub(sent));
    left
}
