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

pub(crate) mod machine;

pub(crate) mod close;
pub(crate) mod complete;
pub(crate) mod reject;
pub(crate) mod request;
pub(crate) mod snapshot;
