//! Callers, and how far each of them goes.

use super::*;

impl Model {
    /// Goes on with a caller for as far as it goes. What it is told, if that is its end.
    pub(crate) fn poll(&mut self, caller: &mut Caller) -> Option<Told> {
        match caller {
            Caller::Token(acquire) => Some(match self.acquire(acquire)? {
                Ok(held) => Told::Token(self.issues[held].token),
                Err(fault) => Told::Fault(fault),
            }),
            Caller::Request { is_slow, stage } => loop {
                match self.go_on(stage, *is_slow) {
                    Next::Stage(next) => *stage = next,
                    Next::Wait => return None,
                    Next::End(told) => return Some(told),
                }
            },
            Caller::Close => {
                // The rest is done by a task, which takes its turn.
                let is_first = self.close();
                (self.is_over && !is_first).then_some(Told::Closed)
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
            Caller::Close => !self.is_over,
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
                    true => self.force(),
                    false => self.ask(),
                };
                match lookup {
                    Lookup::Now(held) => return Some(Ok(held)),
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
                Some(End::Landed(Ok(held))) if self.is_over(held) => {}
                Some(End::Landed(landed)) => return Some(landed),
                Some(End::Lost) if acquire.losses == 3 => return Some(Err(Fault::Runtime)),
                Some(End::Lost) => acquire.losses += 1,
            }
        }
    }

    fn go_on(&mut self, stage: &mut Stage, is_slow: bool) -> Next {
        match stage {
            Stage::Uncalled | Stage::Readying(_) | Stage::ReadyingAgain { .. } if self.is_busy => {
                Next::Wait
            }
            Stage::Uncalled => match self.ask() {
                Lookup::Now(held) => self.send(held, is_slow),
                Lookup::Later(flight) => Next::Stage(Stage::Acquiring(joined(flight))),
                Lookup::Never(fault) => Next::End(Told::Fault(fault)),
            },
            Stage::Acquiring(acquire) => match self.acquire(acquire) {
                None => Next::Wait,
                Some(Ok(held)) => Next::Stage(Stage::Readying(held)),
                Some(Err(fault)) => Next::End(Told::Fault(fault)),
            },
            // It took so long for the API to become ready.
            Stage::Readying(held) if self.is_over(*held) => Next::Stage(Stage::Uncalled),
            Stage::Readying(held) => self.send(*held, is_slow),
            Stage::Sent { held, call } => match self.calls[*call].status {
                None => Next::Wait,
                Some(401) => self.refused(*held),
                Some(status) => self.answered(*held, status),
            },
            Stage::Renewing { acquire, refused } => match self.acquire(acquire) {
                None => Next::Wait,
                Some(renewed) => self.renewed(renewed, *refused),
            },
            Stage::ReadyingAgain { held, refused } if self.is_over(*held) => self.renew(*refused),
            Stage::ReadyingAgain { held, .. } => {
                let (held, call) = (*held, self.call(*held, is_slow));
                Next::Stage(Stage::Resent { held, call })
            }
            Stage::Resent { held, call } => match self.calls[*call].status {
                None => Next::Wait,
                Some(401) => {
                    self.reject(self.issues[*held].token);
                    Next::End(Told::Response(401, Some(Why::Again)))
                }
                Some(status) => self.answered(*held, status),
            },
        }
    }

    fn send(&mut self, held: usize, is_slow: bool) -> Next {
        let call = self.call(held, is_slow);
        Next::Stage(Stage::Sent { held, call })
    }

    fn call(&mut self, held: usize, is_slow: bool) -> usize {
        let token = self.issues[held].token;
        let status = match self.accepted.contains(&token) {
            _ if is_slow => None,
            true => Some(200),
            false => Some(401),
        };
        self.calls.push(Call { token, status });
        self.calls.len() - 1
    }

    fn answered(&mut self, held: usize, status: u16) -> Next {
        if status == 200 && !self.issues[held].is_accepted {
            self.issues[held].is_accepted = true;
            self.accept(self.issues[held].token);
        }
        Next::End(Told::Response(status, None))
    }

    fn refused(&mut self, held: usize) -> Next {
        if self.reject(self.issues[held].token) {
            return Next::End(Told::Response(401, Some(Why::RefusalBudget)));
        }
        self.renew(held)
    }

    fn renew(&mut self, refused: usize) -> Next {
        match self.ask() {
            Lookup::Now(held) => self.renewed(Ok(held), refused),
            Lookup::Never(fault) => self.renewed(Err(fault), refused),
            Lookup::Later(flight) => Next::Stage(Stage::Renewing {
                acquire: joined(flight),
                refused,
            }),
        }
    }

    fn renewed(&mut self, renewed: Result<usize, Fault>, refused: usize) -> Next {
        let token = |held: usize| self.issues[held].token;
        let why = match renewed {
            Err(fault) => Why::Fetch(fault),
            Ok(held) if token(held) == token(refused) => Why::SameToken,
            Ok(held) => return Next::Stage(Stage::ReadyingAgain { held, refused }),
        };
        Next::End(Told::Response(401, Some(why)))
    }
}

enum Next {
    Stage(Stage),
    Wait,
    End(Told),
}

fn joined(flight: usize) -> Acquire {
    Acquire {
        waits_for: Some(flight),
        ..Acquire::default()
    }
}
