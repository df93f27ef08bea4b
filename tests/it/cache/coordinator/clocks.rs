//! Processes whose clocks differ share tokens, and no process gets a token after the token's end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use tower_auth::cache::{Clock, Moment, Quota};
use tower_auth::{Error, Reason, Token, TokenCache};

use super::{HOUR, SECOND};
use crate::support::breakable_store::BreakableStore;

/// How far the clocks of two processes differ.
const SKEW: Duration = Duration::from_secs(120);

/// Makes a clock that is ahead of the right time, or behind it.
fn clock(ahead: Duration, behind: Duration) -> Clock {
    let right = Clock::tokio();
    let start = Instant::now();
    Clock::custom(move || {
        let wall: SystemTime = right.now().wall() + ahead - behind;
        Moment::new(start.elapsed(), wall)
    })
}

/// The ends of the issued tokens, by Tokio's clock.
#[derive(Clone, Default)]
struct Issuer {
    ends: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Issuer {
    fn issue(&self, lifetime: Duration) -> Result<Token, Error> {
        let mut ends = self.ends.lock().unwrap();
        let secret = format!("token-{}", ends.len() + 1);
        ends.insert(secret.clone(), Instant::now() + lifetime);
        Ok(Token::bearer(secret)?.expires_in(lifetime))
    }

    fn issued(&self) -> usize {
        self.ends.lock().unwrap().len()
    }

    fn is_good(&self, token: &Token) -> bool {
        self.ends.lock().unwrap()[token.secret()] > Instant::now()
    }
}

/// Lets two processes use tokens for ten lifetimes. Each process starts again from time to time, so
/// that it loads tokens of any age. Returns the number of tokens, and the number of times that a
/// process got a token after its end.
async fn run(clocks: [Clock; 2], lifetime: Duration) -> (usize, usize) {
    let store = BreakableStore::default();
    let issuer = Issuer::default();
    let start = |clock: &Clock| -> TokenCache {
        let issuer = issuer.clone();
        let source = move |_: Reason| {
            let issuer = issuer.clone();
            async move { issuer.issue(lifetime) }
        };
        let settings = store.settings(source).clock(clock.clone());
        settings.fleet(store.fleet()).unwrap().build()
    };
    let mut processes = clocks.each_ref().map(start);
    let mut late = 0;
    let pause = lifetime / 80;
    for round in 0..800 {
        for (n, process) in processes.iter_mut().enumerate() {
            if round % [37, 53][n] == 0 {
                *process = start(&clocks[n]);
            }
            let token = process.token().await.unwrap();
            late += usize::from(!issuer.is_good(&token));
        }
        sleep(pause).await;
    }
    (issuer.issued(), late)
}

#[tokio::test(start_paused = true)]
async fn no_process_gets_a_token_after_its_end_though_the_clocks_differ_by_two_minutes() {
    let zero = Duration::ZERO;
    for lifetime in [20, 60, 600].map(Duration::from_secs) {
        let right = || clock(zero, zero);
        let (without_skew, late) = run([right(), right()], lifetime).await;
        assert_eq!(late, 0, "{lifetime:?}");
        for wrong in [(SKEW, zero), (zero, SKEW)] {
            let wrong = || clock(wrong.0, wrong.1);
            for clocks in [[right(), wrong()], [wrong(), right()]] {
                let (issued, late) = run(clocks, lifetime).await;
                assert_eq!(late, 0, "{lifetime:?}");
                assert!(issued <= without_skew + 1, "they still share: {lifetime:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_date_of_one_process_is_a_remaining_time_for_another() {
    let store = BreakableStore::default();
    let right = Clock::tokio();
    let ahead = clock(SKEW, Duration::ZERO);
    let source = {
        let ahead = ahead.clone();
        move |_: Reason| {
            let now = ahead.now().wall();
            async move {
                let quota = Quota::new("requests", 50).of(100).until(now + HOUR / 2);
                let token = Token::bearer("token")?.expires_at(now + HOUR);
                Ok::<_, Error>(token.refresh_in(HOUR / 4).with_quotas([quota]))
            }
        }
    };
    let first = store.settings(source).clock(ahead).fleet(store.fleet());
    first.unwrap().build().token().await.unwrap();
    sleep(100 * SECOND).await;
    let other = store.process(|_| async { panic!("a second fetch") });
    other.token().await.unwrap();
    let status = other.status();
    let now = right.now().wall();
    let left = |time: SystemTime| time.duration_since(now).unwrap().as_secs_f64().round();
    assert_eq!(left(status.expires_at().unwrap()), 3500.0);
    assert_eq!(left(status.refresh_at().unwrap()), 800.0);
    assert_eq!(left(status.quotas()[0].resets_at().unwrap()), 1700.0);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_over_by_the_clock_of_a_process_is_not_taken_again() {
    let store = BreakableStore::default();
    let source = tower_auth_test::ScriptedSource::expiring(HOUR);
    let clock = crate::support::manual_clock();
    let process = store.settings(source.clone()).clock(&clock);
    let process = process.fleet(store.fleet()).unwrap().build();
    process.token().await.unwrap();
    clock.suspend(2 * HOUR);
    assert_eq!(process.token().await.unwrap().secret(), "token-2");
    let other = store.process(source);
    assert_eq!(other.token().await.unwrap().secret(), "token-2");
}
