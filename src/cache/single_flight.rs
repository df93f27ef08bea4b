//! One fetch in the air, awaited by all who need it.
//!
//! A [`Flight`] takes off with one [`Pilot`] and any number of [`Wait`]s. The pilot lands it with
//! one value, and every wait gets a clone of that value: there is no second attempt that a late
//! waiter would have to sit through. A pilot that is dropped before it landed leaves the flight
//! [`Lost`], so nobody waits for a task that no longer exists.
//!
//! ```text
//!            Flight::take_off
//!                   │
//!                InAir ──── Pilot::land(value) ────▶ Landed   every Wait: Ok(value)
//!                   └────── Pilot dropped ─────────▶ Lost     every Wait: Err(Lost)
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

/// A handle to the flight, for joining it.
pub(crate) struct Flight<T> {
    board: Arc<Board<T>>,
}

/// The one who flies: lands the flight, or loses it when dropped.
pub(crate) struct Pilot<T> {
    board: Arc<Board<T>>,
}

/// Resolves when the flight has landed or is lost.
///
/// # Cancel safety
///
/// Dropping a wait leaves the flight and all other waits as they are.
pub(crate) struct Wait<T> {
    board: Arc<Board<T>>,
    /// Where this wait's waker is kept, once it has been polled.
    seat: Option<usize>,
}

/// The flight's pilot was dropped before it landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

struct Board<T> {
    progress: Mutex<Progress<T>>,
}

enum Progress<T> {
    InAir(Slab<Waker>),
    Landed(T),
    Lost,
}

impl<T> Flight<T> {
    pub(crate) fn take_off() -> (Self, Pilot<T>) {
        let board = Arc::new(Board {
            progress: Mutex::new(Progress::InAir(Slab::new())),
        });
        let flight = Self {
            board: Arc::clone(&board),
        };
        (flight, Pilot { board })
    }

    pub(crate) fn wait(&self) -> Wait<T> {
        Wait {
            board: Arc::clone(&self.board),
            seat: None,
        }
    }

    /// Whether `pilot` flies this one.
    pub(crate) fn is_flown_by(&self, pilot: &Pilot<T>) -> bool {
        Arc::ptr_eq(&self.board, &pilot.board)
    }

    /// Gives the flight up for lost, whatever its pilot does later.
    pub(crate) fn give_up(&self) {
        self.board.finish(Progress::Lost);
    }

    /// How many wait for it.
    pub(crate) fn waiting(&self) -> usize {
        match &*self.board.lock() {
            Progress::InAir(wakers) => wakers.len(),
            Progress::Landed(_) | Progress::Lost => 0,
        }
    }
}

impl<T> Pilot<T> {
    /// Hands the value to all who wait, and says how many those are.
    pub(crate) fn land(self, value: T) -> usize {
        self.board.finish(Progress::Landed(value))
    }
}

impl<T> Drop for Pilot<T> {
    fn drop(&mut self) {
        // Changes nothing after a landing.
        self.board.finish(Progress::Lost);
    }
}

impl<T> Board<T> {
    fn lock(&self) -> MutexGuard<'_, Progress<T>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the flight if it is in the air, and says how many were woken.
    fn finish(&self, end: Progress<T>) -> usize {
        let mut progress = self.lock();
        if !matches!(*progress, Progress::InAir(_)) {
            return 0;
        }
        let before = mem::replace(&mut *progress, end);
        drop(progress);
        let Progress::InAir(wakers) = before else {
            return 0;
        };
        let woken = wakers.len();
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
        woken
    }
}

impl<T> Future for Wait<T>
where
    T: Clone,
{
    type Output = Result<T, Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut progress = this.board.lock();
        let wakers = match &mut *progress {
            Progress::Landed(value) => return Poll::Ready(Ok(value.clone())),
            Progress::Lost => return Poll::Ready(Err(Lost)),
            Progress::InAir(wakers) => wakers,
        };
        let outdated = match this.seat.and_then(|seat| wakers.get_mut(seat)) {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            Some(waker) => Some(mem::replace(waker, cx.waker().clone())),
            None => {
                this.seat = Some(wakers.insert(cx.waker().clone()));
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
        let Some(seat) = self.seat else { return };
        let mut progress = self.board.lock();
        let waker = match &mut *progress {
            Progress::InAir(wakers) => wakers.try_remove(seat),
            Progress::Landed(_) | Progress::Lost => None,
        };
        drop(progress);
        drop(waker);
    }
}

impl<T> Clone for Flight<T> {
    fn clone(&self) -> Self {
        Self {
            board: Arc::clone(&self.board),
        }
    }
}
