//! The schedule of failures. Every run has the same faults. Their times are in proportion to the
//! run's length. The times of revocations are random.

use std::time::Duration;

/// How the authorization server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server responds with a 500 and the JSON of RFC 6749 §5.2.
    Errors,
    /// The server reads the request and never responds.
    Hang,
    /// The server reads the request and resets the connection.
    Reset,
    /// The server responds with a 503 and a `Retry-After`.
    Unavailable,
    /// The server responds to every request with a 429 and a `Retry-After`.
    Flood,
    /// The server responds with a 200 and a body that isn't a token response.
    Garbage,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Errors => "500",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Unavailable => "503",
            Self::Flood => "429",
            Self::Garbage => "garbage",
        }
    }

    /// Returns whether the fault may be transient. If so, an immediate second attempt is useful.
    pub(crate) fn is_transient(self) -> bool {
        self != Self::Garbage
    }

    pub(crate) fn has_retry_after(self) -> bool {
        matches!(self, Self::Unavailable | Self::Flood)
    }
}

/// The start and the end of each fault, in seconds of a 60 s run. Between two faults, the server is
/// healthy long enough for a client to recover from its backoff. A token lives for 4 s and is
/// refreshed 2 s before its expiry. So callers shouldn't notice the short faults.
const FAULTS: [(f64, f64, Fault); 8] = [
    (3.0, 4.5, Fault::Errors),
    (8.0, 11.0, Fault::Errors),
    (16.0, 19.0, Fault::Hang),
    (24.0, 27.0, Fault::Reset),
    (31.5, 34.5, Fault::Unavailable),
    (39.0, 42.0, Fault::Flood),
    (46.5, 49.5, Fault::Garbage),
    (54.5, 55.5, Fault::Reset),
];

/// The first rotation happens while the server is healthy, the second while the server is faulty.
const ROTATIONS: [f64; 2] = [52.0, 55.0];

const REVOCATIONS: u32 = 4;

#[derive(Clone)]
pub(crate) struct Schedule {
    pub(crate) length: Duration,
    /// Each spell starts when the previous spell ends.
    pub(crate) spells: Vec<Spell>,
    pub(crate) rotations: Vec<Duration>,
    pub(crate) revocations: Vec<Duration>,
}

/// A period with one fault, or without a fault.
#[derive(Clone, Copy)]
pub(crate) struct Spell {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) fault: Option<Fault>,
}

impl Spell {
    pub(crate) fn name(&self) -> &'static str {
        self.fault.map_or("healthy", Fault::name)
    }

    pub(crate) fn length(&self) -> Duration {
        self.until - self.from
    }

    pub(crate) fn contains(&self, time: Duration) -> bool {
        (self.from..self.until).contains(&time)
    }
}

/// An event that makes the callers' token invalid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Rotation,
    Revocation,
}

impl Schedule {
    pub(crate) fn scaled_to(length: Duration, random: &mut fastrand::Rng) -> Self {
        let at = |second: f64| length.mul_f64(second / 60.0);
        let mut spells = Vec::new();
        let mut healthy_from = Duration::ZERO;
        for (from, until, fault) in FAULTS {
            let (from, until) = (at(from), at(until));
            spells.push(Spell {
                from: healthy_from,
                until: from,
                fault: None,
            });
            spells.push(Spell {
                from,
                until,
                fault: Some(fault),
            });
            healthy_from = until;
        }
        spells.push(Spell {
            from: healthy_from,
            until: length,
            fault: None,
        });
        // Each part of the run has one revocation, so that revocations don't coincide.
        let part = length / REVOCATIONS;
        let revocations = (0..REVOCATIONS)
            .map(|n| part * n + part.mul_f64(random.f64()))
            .collect();
        Self {
            length,
            spells,
            rotations: ROTATIONS.map(at).to_vec(),
            revocations,
        }
    }

    pub(crate) fn fault_at(&self, time: Duration) -> Option<Fault> {
        let spell = self.spells.iter().find(|spell| spell.contains(time));
        spell.and_then(|spell| spell.fault)
    }

    /// Returns rotations and revocations, in the order of their times.
    pub(crate) fn events(&self) -> Vec<(Duration, Event)> {
        let rotations = self.rotations.iter().map(|time| (*time, Event::Rotation));
        let revocations = self
            .revocations
            .iter()
            .map(|time| (*time, Event::Revocation));
        let mut events: Vec<_> = rotations.chain(revocations).collect();
        events.sort_by_key(|(time, _)| *time);
        events
    }
}
