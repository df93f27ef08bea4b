//! Transitions after a server refuses or accepts a token.

use std::time::Duration;

use super::machine::{Refresh, StateMachine, TokenState, WithdrawnFrom};
use crate::cache::refusal_evidence::{RefusedToken, SentRequest};
use crate::cache::refusal_history::{RefusalHistory, WatchEnd};
use crate::clock::Moment;
use crate::error::Error;

/// If a server's clock lags by up to this time, a refused request waits and sends the same token
/// again.
///
/// A lagging server refuses a token that was just issued, because the token isn't valid yet (`nbf`,
/// RFC 7519 §4.1.5). The server would refuse a new token too.
pub(crate) const CLOCK_LAG: Duration = Duration::from_secs(2);
/// How long a request waits before sending the same token again.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// A refusal of a token.
pub(crate) struct Refusal {
    pub(crate) generation: u64,
    pub(crate) sent: SentRequest,
    /// Whether the server has ended the token or the user has rejected it.
    pub(crate) is_final: bool,
    pub(crate) attempt: Attempt,
    /// Whether the request can wait and then send the same token again.
    pub(crate) can_pause: bool,
}

/// Which attempt of a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    First,
    /// Another attempt, with a different token than the first attempt.
    NewToken,
    /// Another attempt, with the same token as the first attempt, after a pause.
    Paused,
}

/// The consequence of a refusal.
#[derive(Clone, Debug)]
pub(crate) enum Rejection {
    /// The fetch of a successor is wanted or in flight.
    SuccessorWanted,
    /// The last fetch of a successor failed.
    NotFetched(Error),
    /// The token is no longer current.
    Outdated,
    /// The token may not be valid yet. The request can send the token again after [`PAUSE`].
    TooYoung,
    /// The refusal budget is used up. The token stays in use, because a server would probably
    /// refuse a new token too.
    Limited {
        /// Whether servers accept the token for other requests. If so, the refusal is about the
        /// resource.
        is_accepted_otherwise: bool,
        report: Option<Report>,
    },
}

/// The report about a refusal for which the budget prevents or delays the fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The servers refused several tokens in a row. Contains the number of these tokens, and the
    /// wait until the next fetch.
    AllRefused { tokens: u32, wait: Duration },
    /// The resource refuses a token that other resources accept.
    Resource,
}

impl StateMachine {
    /// Handles the refusal of the token with this generation. Has no effect if a newer token is
    /// current.
    pub(crate) fn reject(&mut self, refusal: &Refusal, now: Moment) -> Rejection {
        let jitter = self.limits.expiry_policy.has_jitter();
        let TokenState::Holding { cached, refresh } = &mut self.state else {
            return Rejection::Outdated;
        };
        if cached.token().generation() != refusal.generation {
            return Rejection::Outdated;
        }
        let token = RefusedToken {
            generation: refusal.generation,
            is_accepted: cached.is_accepted(),
            is_aged: refusal.attempt == Attempt::Paused || cached.is_aged(CLOCK_LAG, now),
            is_replay: refusal.attempt != Attempt::First,
        };
        let refusals = self
            .refusals
            .get_or_insert_with(|| Box::new(RefusalHistory::new(jitter)));
        let was_watching = refusals.is_watching();
        let was_limited = refusals.limited_until(now).is_some();
        // If the user rejects the token, the user's code may have seen acceptances that the cache
        // doesn't know about.
        if token.is_accepted || refusal.is_final {
            refusals.reset_if_unrefused(now);
        }
        let shown = refusals.refused(token, refusal.sent, now);
        self.version += u64::from(!was_watching);
        let is_revoked = shown.is_revoked;
        let withdraws_from = match (refusal.is_final, is_revoked) {
            (true, _) => WithdrawnFrom::Everyone,
            (false, true) => WithdrawnFrom::CannotReplay,
            (false, false) => WithdrawnFrom::Nobody,
        };
        match refresh {
            Refresh::Wanted { withdrawn_from } => {
                self.version += u64::from(withdraws_from > *withdrawn_from);
                *withdrawn_from = withdraws_from.max(*withdrawn_from);
                return Rejection::SuccessorWanted;
            }
            Refresh::InFlight(running) => {
                self.version += u64::from(withdraws_from > running.withdrawn_from);
                running.withdrawn_from = withdraws_from.max(running.withdrawn_from);
                return Rejection::SuccessorWanted;
            }
            Refresh::NotStarted | Refresh::Failed(_) => {}
        }
        // A failed refresh doesn't block this fetch, because the failure backoff is for tokens that
        // the API accepts.
        let allows_fetch = refusals.allows_fetch(is_revoked, now);
        let may_be_too_young = refusal.can_pause
            && !shown.refuses_aged_tokens
            && match refusal.attempt {
                // If the server accepted the previous token, a new token would be even younger than
                // the refused token.
                Attempt::First => !allows_fetch || (self.was_accepted && !is_revoked),
                Attempt::NewToken => !allows_fetch || !is_revoked,
                Attempt::Paused => false,
            };
        if may_be_too_young {
            return Rejection::TooYoung;
        }
        if allows_fetch {
            refusals.count_fetch(is_revoked, now);
            *refresh = Refresh::Wanted {
                withdrawn_from: withdraws_from,
            };
            self.version += 1;
            return Rejection::SuccessorWanted;
        }
        if let Refresh::Failed(cached_error) = refresh
            && !now.reached(cached_error.until)
        {
            return Rejection::NotFetched(cached_error.error.clone());
        }
        let report = match shown.is_accepted_otherwise {
            true => refusals.report_resource().then_some(Report::Resource),
            false => refusals
                .report_limited(now)
                .map(|(tokens, wait)| Report::AllRefused { tokens, wait }),
        };
        self.version += u64::from(!was_limited || report.is_some());
        Rejection::Limited {
            is_accepted_otherwise: shown.is_accepted_otherwise,
            report,
        }
    }

    /// Handles the acceptance of the token with this generation. Has no effect if a newer token is
    /// current.
    pub(crate) fn accept(&mut self, generation: u64, sent: SentRequest) {
        let TokenState::Holding { cached, .. } = &self.state else {
            return;
        };
        if cached.token().generation() != generation {
            return;
        }
        if !cached.is_accepted() {
            cached.accept();
            self.version += 1;
        }
        if let Some(refusals) = &mut self.refusals {
            refusals.accepted(generation, sent);
        }
    }

    /// Ends the watch if there has been no refusal for a while.
    ///
    /// The watch continues until the successor of a refused token has arrived. During a watch,
    /// every caller asks the state machine. Therefore no caller gets a withdrawn token from the
    /// published state.
    pub(crate) fn end_watch(&mut self, now: Moment) -> Option<WatchEnd> {
        if self.is_replacing() {
            return None;
        }
        let refusals = self.refusals.as_mut()?;
        let end = refusals.end_watch(now)?;
        if let TokenState::Holding { cached, .. } = &self.state
            && cached.is_accepted()
        {
            refusals.reset_if_unrefused(now);
        }
        if refusals.is_empty() {
            self.refusals = None;
        }
        self.version += 1;
        Some(end)
    }
}
