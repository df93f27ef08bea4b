//! The steps of callers in the model.

use super::refusals::YOUTH;
use super::*;

impl Model {
    /// Advances a caller until it ends or has to wait. Returns the caller's final result, if any.
    pub(crate) fn poll(&mut self, caller: &mut Caller) -> Option<Outcome> {
        match caller {
            Caller::Token(acquire) => Some(match self.acquire(acquire)? {
                Ok(cached) => Outcome::Token(self.issues[cached].token),
                Err(fault) => Outcome::Fault(fault),
            }),
            Caller::Request { resource, stage } => loop {
                match self.go_on(stage, *resource) {
                    Next::Stage(next) => *stage = next,
                    Next::Wait => return None,
                    Next::End(outcome) => return Some(outcome),
                }
            },
            Caller::Close => {
                // The caller may have to wait until the shutdown's task has ended.
                let is_first = self.close();
                (self.has_shut_down && !is_first).then_some(Outcome::Closed)
            }
        }
    }

    /// Returns whether the caller has to wait. Another poll would then change nothing.
    pub(crate) fn is_blocked(&self, caller: &Caller) -> bool {
        let waits = |acquire: &Acquire| {
            let flight = acquire.waits_for;
            flight.is_some_and(|flight| self.flights[flight].end.is_none())
        };
        match caller {
            Caller::Token(acquire) => waits(acquire),
            Caller::Close => !self.has_shut_down,
            Caller::Request { stage, .. } => match stage {
                Stage::Acquiring(acquire) | Stage::Renewing { acquire, .. } => waits(acquire),
                Stage::Uncalled | Stage::Readying(_) | Stage::ReadyingAgain { .. } => self.is_busy,
                Stage::Sent { call, .. } => self.calls[*call].status.is_none(),
                Stage::Pausing { until, .. } => self.now.timers < *until,
            },
        }
    }

    /// Returns a valid token or an error. Returns `None` if the caller has to wait.
    fn acquire(&mut self, acquire: &mut Acquire) -> Option<Result<usize, Fault>> {
        loop {
            let Some(flight) = acquire.waits_for.take() else {
                let lookup = match acquire.wants {
                    Wants::Newer => self.force_refresh(),
                    Wants::Any => self.request_token(Tries::One),
                    Wants::Other(refused) => self.renew(refused),
                };
                match lookup {
                    Lookup::Now(cached) => return Some(Ok(cached)),
                    Lookup::Never(fault) => return Some(Err(fault)),
                    Lookup::Later(flight) => acquire.waits_for = Some(flight),
                }
                continue;
            };
            match self.flights[flight].end {
                None => {
                    acquire.waits_for = Some(flight);
                    return None;
                }
                // The caller was polled so late that the new token has already expired.
                Some(End::Completed(Ok(cached))) if self.is_past_its_end(cached) => {}
                // A valid token is better than an error, even if the token was withdrawn.
                Some(End::Completed(Err(fault))) => {
                    let is_any = acquire.wants == Wants::Any;
                    let fallback = self.current.filter(|_| is_any && self.has_valid_token());
                    return Some(fallback.ok_or(fault));
                }
                Some(End::Completed(result)) => return Some(result),
                Some(End::Abandoned) if acquire.abandonments == 3 => {
                    return Some(Err(Fault::Runtime));
                }
                Some(End::Abandoned) => acquire.abandonments += 1,
            }
        }
    }

    fn go_on(&mut self, stage: &mut Stage, resource: Resource) -> Next {
        match stage {
            Stage::Uncalled | Stage::Readying(_) | Stage::ReadyingAgain { .. } if self.is_busy => {
                Next::Wait
            }
            Stage::Uncalled => {
                // All requests of the model can be replayed. That matters only while refusals are
                // watched.
                let tries = match self.is_watching() {
                    true => Tries::Several,
                    false => Tries::One,
                };
                let lookup = self.request_token(tries);
                self.send_with(lookup, resource)
            }
            Stage::Acquiring(acquire) => match self.acquire(acquire) {
                None => Next::Wait,
                Some(Ok(cached)) => Next::Stage(Stage::Readying(cached)),
                Some(Err(fault)) => Next::End(Outcome::Fault(fault)),
            },
            // The token expired before the API became ready.
            Stage::Readying(cached) if self.is_past_its_end(*cached) => {
                let lookup = self.request_token(Tries::One);
                self.send_with(lookup, resource)
            }
            Stage::Readying(cached) => self.send(*cached, resource, Tried::default()),
            Stage::Sent { sent, call } => match self.calls[*call].status {
                None => Next::Wait,
                Some(401) => self.refused(*sent, resource),
                Some(status) => self.responded(*sent, resource, status),
            },
            Stage::Renewing { acquire, refused } => match self.acquire(acquire) {
                None => Next::Wait,
                Some(renewed) => self.renewed(renewed, *refused),
            },
            Stage::Pausing { until, .. } if self.now.timers < *until => Next::Wait,
            Stage::Pausing { refused, .. } => {
                let mut refused = *refused;
                refused.tried.pause = true;
                match self.request_token(Tries::Several) {
                    // Usually this is the refused token again. After a different one, no further
                    // token is tried.
                    Lookup::Now(cached) => {
                        refused.tried.new_token |= !self.is_same(cached, refused);
                        Next::Stage(Stage::ReadyingAgain { cached, refused })
                    }
                    lookup => self.send_again_with(lookup, refused, Wants::Any),
                }
            }
            Stage::ReadyingAgain { cached, refused } if self.is_past_its_end(*cached) => {
                let lookup = self.request_token(Tries::Several);
                self.send_again_with(lookup, *refused, Wants::Any)
            }
            Stage::ReadyingAgain { cached, refused } => self.send(*cached, resource, refused.tried),
        }
    }

    fn send_with(&mut self, lookup: Lookup, resource: Resource) -> Next {
        match lookup {
            Lookup::Now(cached) => self.send(cached, resource, Tried::default()),
            Lookup::Later(flight) => Next::Stage(Stage::Acquiring(joined(flight, Wants::Any))),
            Lookup::Never(fault) => Next::End(Outcome::Fault(fault)),
        }
    }

    fn send(&mut self, cached: usize, resource: Resource, tried: Tried) -> Next {
        let watched = self.is_watching().then_some(self.now.clocks.monotonic);
        let call = self.call(cached, resource);
        let sent = Sent {
            cached,
            watched,
            tried,
        };
        Next::Stage(Stage::Sent { sent, call })
    }

    fn call(&mut self, cached: usize, resource: Resource) -> usize {
        let token = self.issues[cached].token;
        let turn = self.turns.entry(resource).or_default();
        *turn += 1;
        let is_fair = match self.manners.get(&resource) {
            None | Some(Manner::Fair) => true,
            Some(Manner::RefusesAll) => false,
            Some(Manner::ByTurns) => (*turn).is_multiple_of(2),
        };
        let status = match is_fair && self.accepted.contains(&token) {
            _ if resource.is_slow => None,
            true => Some(200),
            false => Some(401),
        };
        self.calls.push(Call { token, status });
        self.calls.len() - 1
    }

    fn responded(&mut self, sent: Sent, resource: Resource, status: u16) -> Next {
        let cached = sent.cached;
        // Unless refusals are watched, only the first acceptance of each token is recorded.
        if status == 200 && (sent.watched.is_some() || !self.issues[cached].is_accepted) {
            let token = self.issues[cached].token;
            match sent.watched {
                Some(at) => self.accept(token, Some(resource), at),
                None => self.accept(token, None, BEFORE_ALL),
            }
            self.issues[cached].is_accepted = true;
        }
        Next::End(Outcome::Response(status, None))
    }

    fn refused(&mut self, sent: Sent, resource: Resource) -> Next {
        let token = self.issues[sent.cached].token;
        let cached = self.issues[sent.cached];
        let is_young =
            cached.deadlines.is_some() && !self.now.clocks.reached(cached.arrived.plus(YOUTH));
        let rejected = self.reject(Refusal {
            token,
            resource: Some(resource),
            sent: sent.watched.unwrap_or(BEFORE_ALL),
            is_final: false,
            tried: sent.tried,
            can_pause: is_young,
        });
        let why = match rejected {
            Rejected::TooYoung => {
                let until = self.now.timers + PAUSE;
                let refused = sent;
                return Next::Stage(Stage::Pausing { until, refused });
            }
            Rejected::Outdated | Rejected::Replaced if !sent.tried.new_token => {
                let lookup = self.renew(token);
                return self.send_again_with(lookup, sent, Wants::Other(token));
            }
            Rejected::NotFetched(fault) => Why::Fetch(fault),
            Rejected::Limited {
                is_accepted_otherwise: true,
            } => Why::Resource,
            Rejected::Limited { .. } if !sent.tried.new_token => Why::RefusalBudget,
            Rejected::Outdated | Rejected::Replaced | Rejected::Limited { .. } => Why::Again,
        };
        Next::End(Outcome::Response(401, Some(why)))
    }

    fn send_again_with(&mut self, lookup: Lookup, refused: Sent, wants: Wants) -> Next {
        match lookup {
            Lookup::Now(cached) => self.renewed(Ok(cached), refused),
            Lookup::Never(fault) => self.renewed(Err(fault), refused),
            Lookup::Later(flight) => Next::Stage(Stage::Renewing {
                acquire: joined(flight, wants),
                refused,
            }),
        }
    }

    fn renewed(&mut self, renewed: Result<usize, Fault>, mut refused: Sent) -> Next {
        refused.tried.new_token = true;
        let why = match renewed {
            Err(fault) => Why::Fetch(fault),
            Ok(cached) if self.is_same(cached, refused) => Why::SameToken,
            Ok(cached) => return Next::Stage(Stage::ReadyingAgain { cached, refused }),
        };
        Next::End(Outcome::Response(401, Some(why)))
    }

    fn is_same(&self, cached: usize, refused: Sent) -> bool {
        self.issues[cached].token == self.issues[refused.cached].token
    }
}

enum Next {
    Stage(Stage),
    Wait,
    End(Outcome),
}

fn joined(flight: usize, wants: Wants) -> Acquire {
    Acquire {
        wants,
        waits_for: Some(flight),
        ..Acquire::default()
    }
}
