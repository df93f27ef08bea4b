//! What a refusal proves, and how many fetches it may cause. Requests start at a fixed rate in
//! virtual time, even if earlier requests are still running.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use http::{Request, Response};
use tokio::time::{Instant, sleep, sleep_until};
use tower::Layer;
use tower_auth::cache::TokenCacheBuilder;
use tower_auth::{Auth, AuthLayer, NotReplayed};
use tower_service::Service;

use self::simulated_api::{Api, Asked, Issuer, Payload};
use crate::support::{layer_from, paused};

mod budget;
mod callers;
mod clock_lag;
#[cfg(feature = "fleet")]
mod fleet;
mod other_traffic;
#[cfg(feature = "reqwest")]
mod real_servers;
mod resources;
mod revocations;
mod servers_that_disagree;
mod simulated_api;
mod slow_responses;
mod sources;
mod token_endpoint;
mod unreplayable;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const API: &str = "https://api.example.com";

/// The longest duration of a call that waits only for the API.
const NO_WAIT: Duration = Duration::from_millis(12);

/// The maximum number of fetches since the start if one resource refuses every token. The first
/// fetch counts too.
const ROW_1: [(Duration, usize); 3] = [(SECOND, 2), (MINUTE, 5), (HOUR, 20)];

/// The most fetches in ten minutes: the first, one at once, and then after 5, 15, 35, 75, 155 and
/// 315 s.
const TEN_MINUTES: [(Duration, usize); 3] = [(SECOND, 2), (MINUTE, 5), (HOUR, 8)];

/// Builds a replayable request to a path of the API.
fn get(path: &str) -> Request<Payload> {
    let request = Request::get(format!("{API}{path}"));
    request.body(Payload::Whole).unwrap()
}

/// Alternates between `/` and `/admin`.
fn by_turns(n: usize) -> Request<Payload> {
    get(["/", "/admin"][n % 2])
}

/// The result of one request.
#[derive(Clone, Debug)]
struct Call {
    at: Duration,
    path: String,
    /// The HTTP status. gRPC's `UNAUTHENTICATED` counts as 401.
    status: Result<u16, String>,
    took: Duration,
    reason: Option<String>,
}

/// Requests to the API and their results.
struct Simulation {
    issuer: Issuer,
    clients: Vec<Auth<Api>>,
    sent: usize,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Simulation {
    /// Builds one client with default settings, but without jitter.
    fn new(accepts: impl Fn(&Asked<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self::with(accepts, |cache| cache, |layer| layer)
    }

    /// Builds one client with these settings.
    fn with(
        accepts: impl Fn(&Asked<'_>) -> bool + Send + Sync + 'static,
        cache: impl FnOnce(TokenCacheBuilder) -> TokenCacheBuilder,
        layer: impl FnOnce(AuthLayer) -> AuthLayer,
    ) -> Self {
        let issuer = Issuer::lasting(DAY);
        let api = Api::new(&issuer, accepts);
        let cache = cache(paused(issuer)).build();
        Self::of(&api, [layer(layer_from(cache))])
    }

    /// Builds one client per layer. The clients take turns.
    fn of(api: &Api, layers: impl IntoIterator<Item = AuthLayer>) -> Self {
        let layers = layers.into_iter();
        Self {
            issuer: api.issuer.clone(),
            clients: layers.map(|layer| layer.layer(api.clone())).collect(),
            sent: 0,
            calls: Arc::default(),
        }
    }

    /// Sends this many requests per second for this time. `request` gets the number of earlier
    /// requests.
    async fn drive(
        &mut self,
        rate: u32,
        span: Duration,
        request: impl Fn(usize) -> Request<Payload>,
    ) {
        let (from, pause) = (Instant::now(), SECOND / rate);
        let mut at = Duration::ZERO;
        while at < span {
            sleep_until(from + at).await;
            self.send(request(self.sent));
            at += pause;
        }
        sleep_until(from + span).await;
    }

    fn send(&mut self, request: Request<Payload>) {
        let turn = self.sent % self.clients.len();
        self.sent += 1;
        let client = &mut self.clients[turn];
        let (start, path) = (self.issuer.start, request.uri().path().to_owned());
        let mut context = Context::from_waker(Waker::noop());
        assert!(Service::<Request<Payload>>::poll_ready(client, &mut context).is_ready());
        let (sent, response) = (Instant::now(), client.call(request));
        let calls = Arc::clone(&self.calls);
        tokio::spawn(async move {
            let response = response.await;
            let reason = response.as_ref().ok().and_then(|response| {
                let reason = response.extensions().get::<NotReplayed>();
                reason.map(|reason| format!("{reason:?}"))
            });
            let call = Call {
                at: sent - start,
                path,
                status: response
                    .map(|it| status_of(&it))
                    .map_err(|it| it.to_string()),
                took: sent.elapsed(),
                reason,
            };
            calls.lock().unwrap().push(call);
        });
    }
    /// Sends 20 requests per second for a minute. For the rest of an hour, sends only 2 per second
    /// to save simulation time.
    async fn drive_for_an_hour(&mut self, request: impl Fn(usize) -> Request<Payload>) {
        self.drive(20, MINUTE, &request).await;
        self.drive(2, HOUR - MINUTE, request).await;
    }

    /// Sends requests until the time since the last fetch is in this range. No other fetch is due
    /// then.
    async fn drive_until_idle(
        &mut self,
        rate: u32,
        idle: Range<Duration>,
        request: impl Fn(usize) -> Request<Payload>,
    ) {
        for _ in 0..1_000 {
            if idle.contains(&self.issuer.idle()) {
                return;
            }
            self.drive(rate, (SECOND / 20).max(SECOND / rate), &request)
                .await;
        }
        panic!("{} fetches without a pause", self.issuer.count());
    }

    /// Waits until all calls have finished.
    async fn finish(&self) {
        for _ in 0..60 {
            if self.calls.lock().unwrap().len() == self.sent {
                return;
            }
            sleep(SECOND).await;
        }
        panic!("a call has not finished within a minute");
    }

    /// Returns the calls to paths with this prefix, in the order in which they were sent.
    fn calls_to(&self, path: &str) -> Vec<Call> {
        let calls = self.calls.lock().unwrap();
        let calls = calls.iter().filter(|call| call.path.starts_with(path));
        let mut calls: Vec<Call> = calls.cloned().collect();
        calls.sort_by_key(|call| call.at);
        calls
    }

    /// Returns the calls to exactly this path since this time.
    fn calls_since(&self, since: Duration, path: &str) -> Vec<Call> {
        let calls = self.calls_to(path);
        let is_meant = |call: &Call| call.at >= since && call.path == path;
        calls.into_iter().filter(is_meant).collect()
    }

    fn elapsed(&self) -> Duration {
        self.issuer.start.elapsed()
    }

    /// Asserts the maximum number of fetches within each span. Each span begins at the start.
    #[track_caller]
    fn costs_at_most<const N: usize>(&self, bars: [(Duration, usize); N]) {
        for (span, most) in bars {
            let count = self.issuer.count_in(Duration::ZERO..span);
            assert!(count <= most, "{count} fetches in {span:?}, of {most}");
        }
    }

    /// Asserts that no call to this path fails. Calls may wait only for the first fetch.
    #[track_caller]
    fn is_undisturbed(&self, path: &str) {
        let calls = self.calls_since(self.issuer.first_issued(), path);
        assert!(calls.len() > 20, "{} calls", calls.len());
        for call in calls {
            assert_eq!(call.status, Ok(200), "{call:?}");
            assert!(call.took < NO_WAIT, "{call:?}");
        }
    }
}

#[track_caller]
fn all_accepted(calls: &[Call]) {
    assert!(!calls.is_empty());
    for call in calls {
        assert_eq!(call.status, Ok(200), "{call:?}");
    }
}

fn status_of<B>(response: &Response<B>) -> u16 {
    match response.headers().get("grpc-status") {
        Some(status) if status == "16" => 401,
        _ => response.status().as_u16(),
    }
}
