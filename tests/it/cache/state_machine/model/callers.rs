//! Callers, and how far each of them goes.

use super::*;

impl Model {
    /// Goes on with a caller for as far as it goes. What it is told, if that is its end.
    pub(crate) fn poll(&mut self, caller: &mut Caller) -> Option<Outcome> {
        match caller {
            Caller::Token(acquire) => Some(match self.acquire(acquire)? {
                Ok(cached) => Outcome::Token(self.issues[cached].token),
                Err(fault) => Outcome::Fault(fault),
            }),
            Caller::Request { is_slow, stage } => loop {
                match self.go_on(stage, *is_slow) {
                    Next::Stage(next) => *stage = next,
                    Next::Wait => return None,
                    Next::End(outcome) => return Some(outcome),
                }
            },
            Caller::Close => {
                // The rest is done by a task, which takes its turn.
                let is_first = self.close();
                (self.has_shut_down && !is_first).then_some(Outcome::Closed)
            }
        }
    }

    /// Whether it would go no further.
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
                Stage::Sent { call, .. } | Stage::Resent { call, .. } => {
                    self.calls[*call].status.is_none()
                }
            },
        }
    }

    /// A token that is good, or why there is none; `None` to wait.
    fn acquire(&mut self, acquire: &mut Acquire) -> Option<Result<usize, Fault>> {
        loop {
            let Some(flight) = acquire.waits_for.take() else {
                let lookup = match acquire.is_forced {
                    true => self.force_refresh(),
                    false => self.request_token(),
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
                // Looked at long after it came.
                Some(End::Completed(Ok(cached))) if self.is_past_its_end(cached) => {}
                Some(End::Completed(result)) => return Some(result),
                Some(End::Abandoned) if acquire.abandonments == 3 => {
                    return Some(Err(Fault::Runtime));
                }
                Some(End::Abandoned) => acquire.abandonments += 1,
            }
        }
    }

    fn go_on(&mut self, stage: &mut Stage, is_slow: bool) -> Next {
        match stage {
            Stage::Uncalled | Stage::Readying(_) | Stage::ReadyingAgain { .. } if self.is_busy => {
                Next::Wait
            }
            Stage::Uncalled => match self.request_token() {
                Lookup::Now(cached) => self.send(cached, is_slow),
                Lookup::Later(flight) => Next::Stage(Stage::Acquiring(joined(flight))),
                Lookup::Never(fault) => Next::End(Outcome::Fault(fault)),
            },
            Stage::Acquiring(acquire) => match self.acquire(acquire) {
                None => Next::Wait,
                Some(Ok(cached)) => Next::Stage(Stage::Readying(cached)),
                Some(Err(fault)) => Next::End(Outcome::Fault(fault)),
            },
            // It took so long for the API to become ready.
            Stage::Readying(cached) if self.is_past_its_end(*cached) => {
                Next::Stage(Stage::Uncalled)
            }
            Stage::Readying(cached) => self.send(*cached, is_slow),
            Stage::Sent { cached, call } => match self.calls[*call].status {
                None => Next::Wait,
                Some(401) => self.refused(*cached),
                Some(status) => self.responded(*cached, status),
            },
            Stage::Renewing { acquire, refused } => match self.acquire(acquire) {
                None => Next::Wait,
                Some(renewed) => self.renewed(renewed, *refused),
            },
            Stage::ReadyingAgain { cached, refused } if self.is_past_its_end(*cached) => {
                self.renew(*refused)
            }
            Stage::ReadyingAgain { cached, .. } => {
                let (cached, call) = (*cached, self.call(*cached, is_slow));
                Next::Stage(Stage::Resent { cached, call })
            }
            Stage::Resent { cached, call } => match self.calls[*call].status {
                None => Next::Wait,
                Some(401) => {
                    self.reject(self.issues[*cached].token);
                    Next::End(Outcome::Response(401, Some(Why::Again)))
                }
                Some(status) => self.responded(*cached, status),
            },
        }
    }

    fn send(&mut self, cached: usize, is_slow: bool) -> Next {
        let call = self.call(cached, is_slow);
        Next::Stage(Stage::Sent { cached, call })
    }

    fn call(&mut self, cached: usize, is_slow: bool) -> usize {
        let token = self.issues[cached].token;
        let status = match self.accepted.contains(&token) {
            _ if is_slow => None,
            true => Some(200),
            false => Some(401),
        };
        self.calls.push(Call { token, status });
        self.calls.len() - 1
    }

    fn responded(&mut self, cached: usize, status: u16) -> Next {
        if status == 200 && !self.issues[cached].is_accepted {
            self.issues[cached].is_accepted = true;
            self.accept(self.issues[cached].token);
        }
        Next::End(Outcome::Response(status, None))
    }

    fn refused(&mut self, cached: usize) -> Next {
        if self.reject(self.issues[cached].token) {
            return Next::End(Outcome::Response(401, Some(Why::RefusalBudget)));
        }
        self.renew(cached)
    }

    fn renew(&mut self, refused: usize) -> Next {
        match self.request_token() {
            Lookup::Now(cached) => self.renewed(Ok(cached), refused),
            Lookup::Never(fault) => self.renewed(Err(fault), refused),
            Lookup::Later(flight) => Next::Stage(Stage::Renewing {
                acquire: joined(flight),
                refused,
            }),
        }
    }

    fn renewed(&mut self, renewed: Result<usize, Fault>, refused: usize) -> Next {
        let token = |cached: usize| self.issues[cached].token;
        let why = match renewed {
            Err(fault) => Why::Fetch(fault),
            Ok(cached) if token(cached) == token(refused) => Why::SameToken,
            Ok(cached) => return Next::Stage(Stage::ReadyingAgain { cached, refused }),
        };
        Next::End(Outcome::Response(401, Some(why)))
    }
}

enum Next {
    Stage(Stage),
    Wait,
    End(Outcome),
}

fn joined(flight: usize) -> Acquire {
    Acquire {
        waits_for: Some(flight),
        ..Acquire::default()
    }
}
