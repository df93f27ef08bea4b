//! Those who want something of the API, and what they got.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode, Uri};
use http_body_util::Full;
use tokio::task::JoinSet;
use tower::{Layer, Service, ServiceExt};
use tower_auth::{Auth, BoxError, Error};

use crate::Stopwatch;
use crate::api::{Api, Visits};
use crate::client::Client;
use crate::truth::Truth;

/// A request as its caller saw it.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) start: Duration,
    pub(crate) end: Duration,
    /// Time that was not spent in the API.
    pub(crate) added: Duration,
    /// How often the API refused it. Once is what the layer makes good.
    pub(crate) refusals: u32,
    /// In one word.
    pub(crate) failure: Option<&'static str>,
}

/// How long a caller thinks between two requests.
const THOUGHT_MS: std::ops::Range<u64> = 100..300;

/// Has all of them send requests until the time is up, and collects what they saw.
pub(crate) async fn run(
    client: &Client,
    watch: Stopwatch,
    truth: &Arc<Truth>,
    callers: u64,
    length: Duration,
    random: &mut fastrand::Rng,
) -> Vec<Request> {
    let mut running = JoinSet::new();
    for _ in 0..callers {
        let api = Api::new(watch, Arc::clone(truth), random.fork());
        let caller = Caller {
            visits: api.visits(),
            // A service for each, as with clones of one client; the token is shared.
            service: client.layer().layer(api),
            watch,
            random: random.fork(),
        };
        running.spawn(caller.run_until(length));
    }
    let seen = running.join_all().await;
    let mut requests: Vec<Request> = seen.into_iter().flatten().collect();
    requests.sort_by_key(|request| request.end);
    requests
}

struct Caller {
    service: Auth<Api>,
    visits: Visits,
    watch: Stopwatch,
    random: fastrand::Rng,
}

impl Caller {
    async fn run_until(mut self, end: Duration) -> Vec<Request> {
        let mut requests = Vec::new();
        loop {
            self.think().await;
            if self.watch.now() >= end {
                return requests;
            }
            requests.push(self.send().await);
        }
    }

    async fn think(&mut self) {
        let thought = Duration::from_millis(self.random.u64(THOUGHT_MS));
        tokio::time::sleep(thought).await;
    }

    async fn send(&mut self) -> Request {
        let mut request = http::Request::new(Full::from("something to be done"));
        *request.uri_mut() = Uri::from_static("https://api.example.com/v1/things");
        let start = self.watch.now();
        let answered = match self.service.ready().await {
            Ok(service) => service.call(request).await,
            Err(error) => Err(error),
        };
        let end = self.watch.now();
        let visit = self.visits.take();
        Request {
            start,
            end,
            added: (end - start).saturating_sub(visit.spent),
            refusals: visit.refusals,
            failure: failure(&answered),
        }
    }
}

/// Why it is no success, in as few words as a table has room for.
fn failure(answered: &Result<Response<()>, BoxError>) -> Option<&'static str> {
    let error = match answered {
        Ok(response) if response.status() == StatusCode::UNAUTHORIZED => return Some("401"),
        Ok(_) => return None,
        Err(error) => error.downcast_ref::<Error>(),
    };
    Some(match error {
        Some(error) if error.is_timeout() => "timeout",
        Some(error) if error.is_transport() => "transport",
        Some(error) if error.is_denied() => "denied",
        Some(error) if error.is_reply() => "reply",
        Some(error) if error.is_expired() => "expired",
        Some(_) | None => "other",
    })
}
