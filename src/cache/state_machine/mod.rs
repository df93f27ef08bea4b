//! The state machine of one token. Its state is the current token, the running fetch and the last
//! error.
//!
//! The state machine is pure: from the time and an event, it decides what to do.
//! [`PublishedState`](crate::cache::published_state::PublishedState) puts a lock around the state
//! machine.
//!
//! ```text
//!           request             complete(Ok)
//!   Empty ────────▶ Fetching ────────────▶ Holding ◀─┐ complete(Ok); complete(Err) keeps the token
//!                     │  ▲                  │  │  │   │
//!        complete(Err)│  │ request, after   │  │  └───┘ request when stale, or reject and then request:
//!                     ▼  │ the backoff      │  │        refresh
//!                   Failed ◀────────────────┘  │
//!                     request when expired,    └─ request when expired ─▶ Fetching
//!                     after a failed refresh      (joins the refresh, if one is running)
//!
//!   any ─── close ──▶ Closed(InProgress) ─── finish_close ──▶ Closed(Finished)
//! ```
//!
//! After a refusal, the token stays until its successor arrives. Meanwhile the refresh is `Wanted`
//! or `InFlight`. If the token is revoked, it is withdrawn from callers that can't replay a refused
//! request. These callers wait for the successor. They get the revoked token only if the fetch of
//! the successor fails.

pub(crate) mod machine;

pub(crate) mod close;
pub(crate) mod complete;
pub(crate) mod reject;
pub(crate) mod request;
pub(crate) mod snapshot;
