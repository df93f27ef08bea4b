//! The state machine of one token: the current token, the running fetch, the last error.
//!
//! Pure: it is told the time and what happened, and decides what to do.
//! [`PublishedState`](crate::cache::published_state::PublishedState) puts a lock around it.
//!
//! ```text
//!           request             complete(Ok)
//!   Empty ────────▶ Fetching ────────────▶ Holding ◀─┐ complete(Ok); complete(Err) keeps the token
//!     ▲                │  ▲                 │  │  │   │
//!     │   complete(Err)│  │ request, after  │  │  └───┘ request when stale: background refresh
//!     │                ▼  │ the backoff     │  │
//!     │              Failed ◀───────────────│──┤ request when expired, after a failed refresh
//!     │                                     │  └─ request when expired ─▶ Fetching
//!     └── reject, within the refusal budget ┘     (joins the refresh, if one is running)
//!
//!   any ─── close ──▶ Closed
//! ```

mod machine;

mod close;
mod complete;
mod reject;
mod request;
mod snapshot;

pub(crate) use close::RemainingWork;
pub(crate) use machine::{Limits, Outcome, StateMachine};
pub(crate) use reject::Rejection;
pub(crate) use request::{Decision, FetchStart};
pub(crate) use snapshot::Due;
