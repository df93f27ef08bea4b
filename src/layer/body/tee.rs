//! Records a body while it is sent, so that the body can be sent again.
//!
//! ```text
//!            ┌────────── shared ──────────┐
//!   Tee ────▶│ source: the body itself    │◀──── Recording ── replay ─▶ Replayed
//!  (first    │ frames: what the tee read  │                            (second try:
//!   try)     └────────────────────────────┘                             frames, then source)
//! ```
//!
//! The tee and the replayed body share one stream, perhaps on two threads. The rules:
//!
//! 1. The tee takes the body out of the shared state, polls the body without the lock, and puts it
//!    back. No foreign code runs under the lock: no poll, no wake, and no drop of a body, a frame
//!    or a waker.
//! 2. When the replay starts, the stream belongs to the replayed body, and the tee is superseded.
//!    From then on, the tee returns an error instead of frames.
//! 3. If the replay starts during a poll, the replayed body gets the result of that poll. The
//!    replayed body waits for the result without blocking a thread.
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

use super::recorded::{Part, RecordedFrames};

/// The result of polling a body.
type Polled<E> = Poll<Option<Result<Frame<Bytes>, E>>>;

/// Creates the error of a body that has lost its stream.
pub(super) type MakeError<E> = fn(LostStream) -> E;

/// The reason why a body fails although its stream returned no error.
#[derive(Clone, Copy, Debug)]
pub(super) enum LostStream {
    /// The server refused the request before the body was sent completely. The second try sends the
    /// rest of the body.
    Replayed,
    /// The stream panicked.
    Panicked,
}

impl fmt::Display for LostStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replayed => "the request was refused and its body is sent again",
            Self::Panicked => "the request body panicked",
        })
    }
}

impl StdError for LostStream {}

/// Wraps `body` in a tee that records at most `limit` bytes.
pub(super) fn tee<B: Body>(body: B, limit: usize) -> (Tee<B>, Recording<B>) {
    let hint = body.size_hint();
    let state = TeeState {
        source: Source::Idle(body),
        tee: TeeStatus::Alive,
        frames: Some(RecordedFrames::new(limit)),
        waker: None,
    };
    let shared = Arc::new(SharedBody(Mutex::new(state)));
    let recording = Recording {
        shared: Arc::clone(&shared),
        hint,
    };
    let tee = Tee {
        shared,
        hint,
        ended: false,
    };
    (tee, recording)
}

struct SharedBody<B: Body>(Mutex<TeeState<B>>);

struct TeeState<B: Body> {
    source: Source<B>,
    tee: TeeStatus<B::Error>,
    /// The recorded frames. `None` if the body can no longer be replayed:
    ///
    /// - The body exceeds the limit.
    /// - The stream failed or panicked.
    /// - The replay has started, or the recording was dropped.
    frames: Option<RecordedFrames>,
    /// The waker of the tee, until the tee is superseded. Afterwards, the waker of the replayed
    /// body while the replayed body waits for the source.
    waker: Option<Waker>,
}

enum Source<B: Body> {
    Idle(B),
    /// The tee is polling the body.
    BeingPolled,
    /// The tee was superseded during a poll. The replayed body takes the result of that poll.
    Returned(Returned<B>),
    Ended,
}

/// The result of a poll during which the tee was superseded.
struct Returned<B: Body> {
    item: Option<Result<Frame<Bytes>, B::Error>>,
    /// The body, or `None` if the body has ended.
    body: Option<B>,
}

/// The state of the first try's tee.
enum TeeStatus<E> {
    Alive,
    Dropped,
    Superseded(MakeError<E>),
}

impl<B: Body> SharedBody<B> {
    /// Locks the state. No code panics under this lock (rule 1), so the state in a poisoned lock is
    /// consistent.
    fn lock(&self) -> MutexGuard<'_, TeeState<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of the first try.
pub(super) struct Tee<B: Body> {
    shared: Arc<SharedBody<B>>,
    /// The size hint after the last poll. Calling the source's `size_hint` would run foreign code
    /// under the lock.
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
            Err(make_error) => return Poll::Ready(Some(Err(make_error(LostStream::Replayed)))),
        };
        // This closure is unwind safe. After a panic, no replay polls the body again. Only the
        // code that polls this tee could, as it could poll the body without a tee.
        let polled = panic::catch_unwind(AssertUnwindSafe(|| {
            let polled = Pin::new(&mut body).poll_frame(cx);
            let ended = has_ended(&polled, &body);
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
            Err(make_error) => Poll::Ready(Some(Err(make_error(LostStream::Replayed)))),
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
    fn take_out(&self) -> Result<Option<B>, MakeError<B::Error>> {
        let mut state = self.shared.lock();
        if let TeeStatus::Superseded(make_error) = state.tee {
            return Err(make_error);
        }
        match mem::replace(&mut state.source, Source::BeingPolled) {
            Source::Idle(body) => Ok(Some(body)),
            other => {
                state.source = other;
                Ok(None)
            }
        }
    }

    /// Puts the body back. Returns the result of the poll. If the tee was superseded during the
    /// poll, returns a function that makes the error.
    fn put_back(
        &self,
        polled: Polled<B::Error>,
        body: B,
        ended: bool,
        mut waker: Option<Waker>,
    ) -> Result<Polled<B::Error>, MakeError<B::Error>> {
        // Declared before the lock guard, because variables are dropped in reverse order. The lock
        // is then released before an ended body or the old waker is dropped.
        let (body, _ended) = if ended {
            (None, Some(body))
        } else {
            (Some(body), None)
        };
        let mut state = self.shared.lock();
        if let TeeStatus::Superseded(make_error) = state.tee {
            let item = match polled {
                Poll::Ready(item) => item,
                Poll::Pending => None,
            };
            state.source = Source::Returned(Returned { item, body });
            let waiting = state.waker.take();
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
            return Err(make_error);
        }
        state.source = body.map_or(Source::Ended, Source::Idle);
        mem::swap(&mut state.waker, &mut waker);
        let dropped = state.record(&polled);
        drop(state);
        drop(dropped);
        Ok(polled)
    }

    /// Puts back a body that panicked. No replay follows, because the next frame after a panic is
    /// unknown.
    fn put_back_panicked(&self, body: B) {
        let mut state = self.shared.lock();
        if let TeeStatus::Superseded(make_error) = state.tee {
            let item = Some(Err(make_error(LostStream::Panicked)));
            state.source = Source::Returned(Returned { item, body: None });
            let waiting = state.waker.take();
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
            return;
        }
        state.source = Source::Idle(body);
        let dropped = state.frames.take();
        drop(state);
        drop(dropped);
    }
}

impl<B: Body> TeeState<B> {
    /// Records the frame that the tee returns next. When recording stops, returns the recorded
    /// frames. The caller must drop these frames outside the lock.
    #[must_use]
    fn record(&mut self, polled: &Polled<B::Error>) -> Option<RecordedFrames> {
        let fits = match polled {
            Poll::Ready(Some(Ok(frame))) => self.frames.as_mut()?.push(frame),
            Poll::Ready(Some(Err(_))) => false,
            Poll::Ready(None) | Poll::Pending => true,
        };
        if fits { None } else { self.frames.take() }
    }
}

impl<B: Body> Drop for Tee<B> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        // A superseded tee must not take the waker, because the waker belongs to the replayed body.
        if let TeeStatus::Alive = state.tee {
            state.tee = TeeStatus::Dropped;
            let waker = state.waker.take();
            drop(state);
            drop(waker);
        }
    }
}

/// The recording of a body that is sent through a [`Tee`], used to send the body again.
pub struct Recording<B: Body> {
    shared: Arc<SharedBody<B>>,
    /// The size hint of the whole body.
    hint: SizeHint,
}

impl<B: Body> Recording<B> {
    /// Rebuilds the body. `make_error` creates the error of a superseded tee. Without `make_error`,
    /// a body is not replayed while the first try still runs.
    pub(super) fn replay(self, make_error: Option<MakeError<B::Error>>) -> Option<Replayed<B>> {
        let mut state = self.shared.lock();
        // The frames are taken only below. If they were taken here, an early return would drop them
        // under the lock.
        state.frames.as_ref()?;
        let is_unfinished = matches!(state.source, Source::Idle(_) | Source::BeingPolled);
        let mut superseded = None;
        if is_unfinished && matches!(state.tee, TeeStatus::Alive) {
            state.tee = TeeStatus::Superseded(make_error?);
            superseded = state.waker.take();
        }
        let rest = match mem::replace(&mut state.source, Source::Ended) {
            Source::Idle(body) => Rest::Body(body),
            Source::BeingPolled => {
                state.source = Source::BeingPolled;
                Rest::Awaited(Arc::clone(&self.shared))
            }
            Source::Returned(..) | Source::Ended => Rest::Ended,
        };
        let frames = state.frames.take();
        drop(state);
        superseded.into_iter().for_each(Waker::wake);
        Some(Replayed {
            frames: frames?.into_iter(),
            rest,
            hint: self.hint,
        })
    }
}

/// Drops the frames, because only the recording can start a replay.
impl<B: Body> Drop for Recording<B> {
    fn drop(&mut self) {
        let frames = self.shared.lock().frames.take();
        drop(frames);
    }
}

impl<B: Body> fmt::Debug for Recording<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").finish_non_exhaustive()
    }
}

/// The body of the second try: first the recorded frames, then the part that the tee did not read.
pub(super) struct Replayed<B: Body> {
    frames: vec::IntoIter<Part>,
    rest: Rest<B>,
    /// The size hint of the whole body, minus the bytes that the second try has sent.
    ///
    /// An unknown length stays unknown, so that both tries have the same framing. Over HTTP/1, a
    /// second try with a `content-length` would lose its trailers.
    hint: SizeHint,
}

enum Rest<B: Body> {
    Body(B),
    /// The tee was superseded during a poll. The source becomes available after that poll.
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
        let polled = match self.frames.next() {
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
        self.frames.as_slice().is_empty() && self.rest.is_end_stream()
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
            *self = body.map_or(Self::Ended, Self::Body);
            if item.is_some() {
                return Poll::Ready(item);
            }
        }
        let Self::Body(body) = self else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        let ended = has_ended(&polled, body);
        if ended {
            *self = Self::Ended;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Body(body) => body.is_end_stream(),
            Self::Awaited(_) => false,
            Self::Ended => true,
        }
    }
}

impl<B: Body> SharedBody<B> {
    /// Takes the result of the tee's poll. While the tee is still polling, returns `None` and
    /// stores the waker. The tee wakes this waker after the poll.
    fn poll_returned(&self, cx: &Context<'_>) -> Option<Returned<B>> {
        // Wakers are cloned and dropped outside the lock, because cloning and dropping run foreign
        // code.
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

/// Returns whether the body has ended or failed, so that it must not be polled again.
fn has_ended<B: Body<Data = Bytes>>(polled: &Polled<B::Error>, body: &B) -> bool {
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
