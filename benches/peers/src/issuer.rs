//! The fetch that all contenders use. The fetch is counted, takes a set time, and issues a token or
//! fails.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::sync::Semaphore;

/// How the issuer responds to a fetch.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub takes: Duration,
    pub lives: Duration,
    pub fails: bool,
}

impl Terms {
    /// A fetch without delay, and a token that outlives every question.
    pub const DAY: Self = Self {
        takes: Duration::ZERO,
        lives: Duration::from_secs(86_400),
        fails: false,
    };
}

#[derive(Clone, Debug)]
pub struct Issuer(Arc<State>);

#[derive(Debug)]
struct State {
    terms: Terms,
    gate: Option<Semaphore>,
    fetches: AtomicU64,
}

/// A token of 1,000 bytes.
pub struct Issued {
    pub secret: String,
    pub lives: Duration,
}

/// The error of a fetch that issues no token.
#[derive(Clone, Debug)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the issuer fails, as it is told to")
    }
}

impl Error for Refused {}

/// Tokens contain their expiry in microseconds since this time. So each recipient can tell whether
/// a token has expired.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

const DIGITS: usize = 16;

impl Issuer {
    pub fn new(terms: Terms) -> Self {
        Self::with_gate(terms, None)
    }

    /// Makes an issuer that responds only after [`open`](Self::open).
    pub fn gated(terms: Terms) -> Self {
        Self::with_gate(terms, Some(Semaphore::new(0)))
    }

    fn with_gate(terms: Terms, gate: Option<Semaphore>) -> Self {
        Self(Arc::new(State {
            terms,
            gate,
            fetches: AtomicU64::new(0),
        }))
    }

    pub fn open(&self) {
        if let Some(gate) = &self.0.gate {
            gate.add_permits(Semaphore::MAX_PERMITS / 2);
        }
    }

    pub fn terms(&self) -> Terms {
        self.0.terms
    }

    pub fn fetches(&self) -> u64 {
        self.0.fetches.load(Ordering::Relaxed)
    }

    pub async fn fetch(&self) -> Result<Issued, Refused> {
        let State { terms, gate, .. } = &*self.0;
        self.0.fetches.fetch_add(1, Ordering::Relaxed);
        if let Some(gate) = gate {
            drop(gate.acquire().await);
        }
        if !terms.takes.is_zero() {
            tokio::time::sleep(terms.takes).await;
        }
        match terms.fails {
            true => Err(Refused),
            false => Ok(self.issue()),
        }
    }

    /// Makes a token without a fetch.
    pub fn issue(&self) -> Issued {
        let lives = self.0.terms.lives;
        let end = (START.elapsed() + lives).as_micros();
        let secret = format!("{end:0DIGITS$}{}", "a".repeat(1_000 - DIGITS));
        Issued { secret, lives }
    }
}

impl Issued {
    /// Returns the value of the `Authorization` header that carries this token.
    pub fn header(&self) -> HeaderValue {
        bearer(&self.secret)
    }
}

/// Makes the header value: `Bearer` and the secret, marked as sensitive.
pub fn bearer(secret: &str) -> HeaderValue {
    let mut value = HeaderValue::try_from(format!("Bearer {secret}")).expect("digits and letters");
    value.set_sensitive(true);
    value
}

/// Returns how long ago the token in a header expired.
pub fn past_its_end(header: &HeaderValue) -> Duration {
    let text = header.to_str().expect("digits and letters");
    let end = text["Bearer ".len()..][..DIGITS].parse();
    let end = Duration::from_micros(end.expect("a token of this issuer's"));
    START.elapsed().saturating_sub(end)
}
