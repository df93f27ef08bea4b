//! The refusals of the model: what they prove, and which of them may start a fetch.

use super::*;

/// The shortest duration of a watch.
const WATCH: i64 = MINUTE;
/// How far a server's clock may lag. A token that is younger may not be valid yet for such a
/// server.
pub(super) const YOUTH: i64 = 2 * SECOND;
/// How many resources must refuse an accepted token to prove that it was revoked.
const SEVERAL: usize = 3;
/// How many refusals in a row prove a revocation if the resource accepts and refuses by turns.
const LONG_ROW: u32 = 16;

/// The record of refusals. The record is dropped when the watch has ended and no fetch counts
/// against a budget.
pub(super) struct Refusals {
    unproven: RefusalBudget,
    proven: RefusalBudget,
    pub(super) watch: Option<Watch>,
}

struct RefusalBudget {
    first: i64,
    /// How many fetches count against the budget.
    fetches: u32,
    /// Whether one of the counted fetches is still running.
    is_fetching: bool,
    wait: i64,
    next_fetch: Option<Clocks>,
    unrefused_since: Option<Clocks>,
}

/// The watch after a refusal. During the watch, acceptances are recorded and clones don't use their
/// private copies.
pub(super) struct Watch {
    pub(super) until: Clocks,
    /// What each resource did. `None` stands for all requests whose resource is unknown.
    resources: HashMap<Option<Resource>, Conduct>,
    /// The resources that refused the current token since its last acceptance. Each has the send
    /// time of its request.
    refusing: Vec<(Option<Resource>, i64)>,
    last_accepted: Option<usize>,
}

/// Which tokens a resource accepted and refused.
#[derive(Default)]
struct Conduct {
    /// The token and the send time of the request.
    accepted: Option<(usize, i64)>,
    refused: Option<(usize, i64)>,
    refusals_in_row: u32,
    is_by_turns: bool,
    refuses_old_tokens: bool,
}

/// A refusal and what is known about its request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) token: usize,
    pub(crate) resource: Option<Resource>,
    pub(crate) sent: i64,
    /// Whether the user has rejected the token.
    pub(crate) is_final: bool,
    pub(crate) tried: Tried,
    pub(crate) can_pause: bool,
}

/// The effect of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// The token already has a successor.
    Outdated,
    /// A fetch for a successor is running or wanted.
    Replaced,
    NotFetched(Fault),
    /// The token may not be valid yet.
    TooYoung,
    /// The budget is used up.
    Limited {
        is_accepted_otherwise: bool,
    },
}

impl RefusalBudget {
    fn starting_with(first: i64) -> Self {
        Self {
            first,
            fetches: 0,
            is_fetching: false,
            wait: first,
            next_fetch: None,
            unrefused_since: None,
        }
    }

    fn allows_fetch(&self, now: Clocks) -> bool {
        self.next_fetch.is_none_or(|next| now.reached(next))
    }

    /// Resets the budget if the token has stayed unrefused for the current wait.
    fn settle(&mut self, now: Clocks) {
        if let Some(since) = self.unrefused_since
            && now.reached(since.plus(self.wait))
        {
            self.fetches = 0;
            self.wait = self.first;
        }
    }

    fn count(&mut self) {
        self.wait = doubled(self.first, self.fetches, 5 * MINUTE);
        self.fetches += 1;
        self.is_fetching = true;
    }

    /// Sets the time of the earliest next fetch. If the fetch counted against the other budget,
    /// this budget's first wait applies.
    fn fetch_ended(&mut self, now: Clocks) {
        let wait = match self.is_fetching {
            true => self.wait,
            false => self.first,
        };
        self.is_fetching = false;
        let next = now.plus(wait);
        if self.next_fetch.is_none_or(|before| next.reached(before)) {
            self.next_fetch = Some(next);
        }
    }

    fn limited_until(&self, now: Clocks) -> Option<Clocks> {
        let is_limited = self.unrefused_since.is_none() && !self.allows_fetch(now);
        self.next_fetch.filter(|_| is_limited)
    }
}

impl Refusals {
    fn new() -> Self {
        Self {
            unproven: RefusalBudget::starting_with(5 * SECOND),
            proven: RefusalBudget::starting_with(SECOND),
            watch: None,
        }
    }

    fn budgets(&mut self) -> [&mut RefusalBudget; 2] {
        [&mut self.unproven, &mut self.proven]
    }

    pub(super) fn is_fetching(&self) -> bool {
        self.unproven.is_fetching || self.proven.is_fetching
    }

    pub(super) fn fetch_ended(&mut self, now: Clocks) {
        for budget in self.budgets() {
            budget.fetch_ended(now);
        }
    }

    pub(super) fn token_arrived(&mut self, now: Clocks) {
        for budget in self.budgets() {
            budget.unrefused_since = Some(now);
        }
        if let Some(watch) = &mut self.watch {
            watch.refusing.clear();
        }
    }

    pub(super) fn limited_until(&self, now: Clocks) -> Option<Clocks> {
        self.unproven.limited_until(now)
    }

    /// Returns the times at which the budgets or the watch change.
    pub(super) fn edges(&self) -> impl Iterator<Item = Clocks> {
        let budgets = [&self.unproven, &self.proven];
        let settled = budgets.map(|it| it.unrefused_since.map(|since| since.plus(it.wait)));
        let nexts = budgets.map(|it| it.next_fetch);
        let watch = self.watch.as_ref().map(|watch| watch.until);
        settled.into_iter().chain(nexts).flatten().chain(watch)
    }
}

impl Watch {
    fn refused(&mut self, refusal: &Refusal, is_accepted: bool, is_old: bool) -> (bool, bool) {
        let Refusal {
            token,
            resource,
            sent,
            tried,
            ..
        } = *refusal;
        let is_first_try = tried == Tried::default();
        let is_known = self.refusing.iter().any(|(known, _)| *known == resource);
        if is_first_try && !is_known && self.refusing.len() < SEVERAL {
            self.refusing.push((resource, sent));
        }
        let conduct = self.resources.entry(resource).or_default();
        conduct.refusals_in_row += 1;
        conduct.refuses_old_tokens |= is_old;
        conduct.refused = Some((token, sent));
        let has_accepted_it = conduct
            .accepted
            .is_some_and(|(accepted, at)| accepted == token && at <= sent);
        let is_steady = !conduct.is_by_turns || conduct.refusals_in_row >= LONG_ROW;
        let is_refused_by_several = is_accepted && self.refusing.len() == SEVERAL;
        let refuses_old_tokens = conduct.refuses_old_tokens;
        let is_proven = is_refused_by_several || (has_accepted_it && is_steady);
        (is_proven, refuses_old_tokens)
    }

    fn accepted(&mut self, token: usize, resource: Option<Resource>, sent: i64) {
        self.last_accepted = Some(token);
        self.refusing.retain(|(_, refused)| *refused > sent);
        let conduct = self.resources.entry(resource).or_default();
        conduct.is_by_turns |= conduct
            .refused
            .is_some_and(|(refused, at)| refused == token && at < sent);
        conduct.refusals_in_row = 0;
        conduct.refuses_old_tokens = false;
        conduct.accepted = Some((token, sent));
    }
}

impl Model {
    /// Returns whether a watch is active. Without a token no watch is active.
    pub(crate) fn is_watching(&self) -> bool {
        let watch = self.refusals.as_ref().and_then(|it| it.watch.as_ref());
        self.current.is_some() && watch.is_some()
    }

    /// Records that a server or the user rejected a token. The token stays current until its
    /// successor arrives.
    pub(crate) fn reject(&mut self, refusal: Refusal) -> Rejected {
        let now = self.now.clocks;
        let Some(cached) = self.current.map(|cached| self.issues[cached]) else {
            return Rejected::Outdated;
        };
        if cached.token != refusal.token {
            return Rejected::Outdated;
        }
        let refusals = self.refusals.get_or_insert_with(Refusals::new);
        for budget in refusals.budgets() {
            if cached.is_accepted || refusal.is_final {
                budget.settle(now);
            }
            budget.unrefused_since = None;
        }
        let span = WATCH.max(refusals.unproven.wait).max(refusals.proven.wait);
        let until = now.plus(span);
        let watch = refusals.watch.get_or_insert_with(|| Watch {
            until,
            resources: HashMap::new(),
            refusing: Vec::new(),
            last_accepted: None,
        });
        watch.until = until;
        let is_valid_at_once = cached.deadlines.is_none();
        let is_old =
            refusal.tried.pause || is_valid_at_once || now.reached(cached.arrived.plus(YOUTH));
        let (is_proven, refuses_old_tokens) = watch.refused(&refusal, cached.is_accepted, is_old);
        let is_accepted_otherwise = !is_proven && watch.last_accepted == Some(refusal.token);
        let from = match (refusal.is_final, is_proven) {
            (true, _) => Withdrawn::All,
            (false, true) => Withdrawn::WithOneTry,
            (false, false) => Withdrawn::No,
        };
        // One fetch serves all refused callers.
        if let Some(wanted) = &mut self.wanted {
            wanted.withdrawn = from.max(wanted.withdrawn);
            return Rejected::Replaced;
        }
        if let Some(flight) = self.in_flight {
            let withdrawn = &mut self.flights[flight].withdrawn;
            *withdrawn = from.max(*withdrawn);
            return Rejected::Replaced;
        }
        let (by_proof, by_any) = (
            is_proven && refusals.proven.allows_fetch(now),
            refusals.unproven.allows_fetch(now),
        );
        let is_allowed = by_proof || by_any;
        let may_help = if refusal.tried.pause {
            false
        } else if refusal.tried.new_token {
            !is_allowed || !is_proven
        } else {
            !is_allowed || (self.was_accepted && !is_proven)
        };
        if refusal.can_pause && !refuses_old_tokens && may_help {
            return Rejected::TooYoung;
        }
        if is_allowed {
            match by_proof {
                true => refusals.proven.count(),
                false => refusals.unproven.count(),
            }
            self.cached_error = None;
            self.wanted = Some(Wanted {
                withdrawn: from,
                is_proven: by_proof,
            });
            return Rejected::Replaced;
        }
        match self.cached_error {
            Some(cached_error) if !now.reached(cached_error.until) => {
                Rejected::NotFetched(cached_error.fault)
            }
            _ => Rejected::Limited {
                is_accepted_otherwise,
            },
        }
    }

    /// Records that a server or the user accepted the token.
    pub(crate) fn accept(&mut self, token: usize, resource: Option<Resource>, sent: i64) {
        if let Some(cached) = self.current
            && self.issues[cached].token == token
        {
            self.issues[cached].is_accepted = true;
            let watch = self.refusals.as_mut().and_then(|it| it.watch.as_mut());
            if let Some(watch) = watch {
                watch.accepted(token, resource, sent);
            }
        }
        self.end_watch();
    }

    /// Ends the watch after a time without refusals. While a refused token is being replaced, the
    /// watch goes on.
    pub(super) fn end_watch(&mut self) {
        let now = self.now.clocks;
        let is_in_flight = self.in_flight.is_some_and(|flight| {
            let flight = &self.flights[flight];
            flight.reason == Reason::Refused || flight.withdrawn != Withdrawn::No
        });
        let is_replacing = self.current.is_some() && (self.wanted.is_some() || is_in_flight);
        if !self.is_watching() || is_replacing {
            return;
        }
        let Some(refusals) = &mut self.refusals else {
            return;
        };
        let is_past = |watch: &mut Watch| now.reached(watch.until);
        if refusals.watch.take_if(is_past).is_none() {
            return;
        }
        let is_accepted = |cached: usize| self.issues[cached].is_accepted;
        if self.current.is_some_and(is_accepted) {
            for budget in refusals.budgets() {
                budget.settle(now);
            }
        }
        if refusals.budgets().iter().all(|budget| budget.fetches == 0) {
            self.refusals = None;
        }
    }
}
