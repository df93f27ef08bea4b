//! The callers of the API, and the results of their requests.

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

/// A request, as its caller saw it.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) start: Duration,
    pub(crate) end: Duration,
    /// The part of the request's time that was not spent in the API.
    pub(crate) added: Duration,
    /// How often the API refused the request. The layer hides one refusal from the caller.
    pub(crate) refusals: u32,
    /// The reason for the failure, in one word.
    pub(crate) failure: Option<&'static str>,
}

/// How long a caller pauses between two requests.
const THOUGHT_MS: std::ops::Range<u64> = 100..300;

/// Makes all callers send requests until the end, and collects the results.
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
            // Each caller has its own service, like clones of one client. All services share one
            // cache.
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
        let mut request = http::Request::new(Full::from("a body"));
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

/// Returns the reason for the failure, short enough for a table.
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
