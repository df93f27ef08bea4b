//! One running fetch, which all callers that need its result wait for.
//!
//! A [`Flight`] starts with one [`Completer`] and has any number of [`Wait`]s. The completer completes
//! it with one value, and every wait gets a clone of that value, however late it joined. If the
//! completer is dropped before that, the flight is [`Abandoned`], so that no caller waits for a task
//! that doesn't exist any more.
//!
//! ```text
//!            Flight::start
//!                   │
//!                InFlight ─── Completer::complete(value) ──▶ Completed   every Wait: Ok(value)
//!                   └───── Completer dropped, or abandon ──▶ Abandoned   every Wait: Err(Abandoned)
//! ```
//!
//! Nothing here knows what is fetched. Wakers are woken and dropped outside the lock: dropping
//! one may drop the task behind it, and with that another [`Wait`] of the same flight.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// A handle to the flight, to join it.
pub(crate) struct Flight<T> {
    inner: Arc<FlightInner<T>>,
}

/// Completes the flight, or abandons it when dropped.
pub(crate) struct Completer<T> {
    inner: Arc<FlightInner<T>>,
}

/// Resolves when the flight is completed or abandoned.
///
/// # Cancel safety
///
/// Dropping a wait leaves the flight and all other waits as they are.
pub(crate) struct Wait<T> {
    inner: Arc<FlightInner<T>>,
    /// The key of this wait's waker, once it has been polled.
    waker_key: Option<usize>,
}

/// The flight ended without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abandoned;

struct FlightInner<T> {
    progress: Mutex<Progress<T>>,
}

enum Progress<T> {
    InFlight(Slab<Waker>),
    Completed(T),
    Abandoned,
}

impl<T> Flight<T> {
    pub(crate) fn start() -> (Self, Completer<T>) {
        let inner = Arc::new(FlightInner {
            progress: Mutex::new(Progress::InFlight(Slab::new())),
        });
        let flight = Self {
            inner: Arc::clone(&inner),
        };
        (flight, Completer { inner })
    }

    pub(crate) fn wait(&self) -> Wait<T> {
        Wait {
            inner: Arc::clone(&self.inner),
            waker_key: None,
        }
    }

    /// Whether `completer` is the one of this flight.
    pub(crate) fn is_completed_by(&self, completer: &Completer<T>) -> bool {
        Arc::ptr_eq(&self.inner, &completer.inner)
    }

    /// Ends the flight without a value, whatever its completer does later.
    pub(crate) fn abandon(&self) {
        self.inner.finish(Progress::Abandoned);
    }

    /// How many wakers wait for it.
    pub(crate) fn waiting(&self) -> usize {
        match &*self.inner.lock() {
            Progress::InFlight(wakers) => wakers.len(),
            Progress::Completed(_) | Progress::Abandoned => 0,
        }
    }
}

impl<T> Completer<T> {
    /// Gives the value to all waits, and returns how many were woken.
    pub(crate) fn complete(self, value: T) -> usize {
        self.inner.finish(Progress::Completed(value))
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        // Changes nothing if it was completed.
        self.inner.finish(Progress::Abandoned);
    }
}

impl<T> FlightInner<T> {
    fn lock(&self) -> MutexGuard<'_, Progress<T>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the flight if it is in flight, and returns how many waits were woken.
    fn finish(&self, ended: Progress<T>) -> usize {
        let mut progress = self.lock();
        let Progress::InFlight(wakers) = &mut *progress else {
            return 0;
        };
        let wakers = mem::take(wakers);
        *progress = ended;
        drop(progress);
        let woken = wakers.len();
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
        woken
    }
}

impl<T> Future for Wait<T>
where
    T: Clone,
{
    type Output = Result<T, Abandoned>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut progress = this.inner.lock();
        let wakers = match &mut *progress {
            Progress::Completed(value) => return Poll::Ready(Ok(value.clone())),
            Progress::Abandoned => return Poll::Ready(Err(Abandoned)),
            Progress::InFlight(wakers) => wakers,
        };
        let outdated = match this
            .waker_key
            .and_then(|waker_key| wakers.get_mut(waker_key))
        {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            Some(waker) => Some(mem::replace(waker, cx.waker().clone())),
            None => {
                this.waker_key = Some(wakers.insert(cx.waker().clone()));
                None
            }
        };
        drop(progress);
        drop(outdated);
        Poll::Pending
    }
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        let Some(waker_key) = self.waker_key else {
            return;
        };
        let mut progress = self.inner.lock();
        let waker = match &mut *progress {
            Progress::InFlight(wakers) => wakers.try_remove(waker_key),
            Progress::Completed(_) | Progress::Abandoned => None,
        };
        drop(progress);
        drop(waker);
    }
}

impl<T> Clone for Flight<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}
