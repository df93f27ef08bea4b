//! The API, as a service in this process. So the measured delay comes from the layer, not from a
//! network.
//!
//! Over sockets, 2,000 callers would need 4,000 file descriptors. Many systems allow a process only
//! 1,024. The time to connect would also count as the layer's delay.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use tower::Service;

use crate::Stopwatch;
use crate::truth::Truth;

/// The API of one caller. The APIs of all callers share the table of tokens.
#[derive(Clone)]
pub(crate) struct Api {
    watch: Stopwatch,
    truth: Arc<Truth>,
    random: fastrand::Rng,
    visit: Arc<Mutex<Visit>>,
}

/// What the API recorded about its caller's current request.
#[derive(Clone, Copy, Default)]
pub(crate) struct Visit {
    /// How long the API worked on the request, in all attempts together.
    pub(crate) spent: Duration,
    pub(crate) refusals: u32,
}

/// How long the API works on a request. The work is so long that tokens become invalid while
/// requests are in flight.
const WORK_MS: std::ops::Range<u64> = 2..10;

impl Api {
    pub(crate) fn new(watch: Stopwatch, truth: Arc<Truth>, random: fastrand::Rng) -> Self {
        Self {
            watch,
            truth,
            random,
            visit: Arc::default(),
        }
    }

    /// Returns the record that all clones of this API share.
    pub(crate) fn visits(&self) -> Visits {
        Visits(Arc::clone(&self.visit))
    }
}

pub(crate) struct Visits(Arc<Mutex<Visit>>);

impl Visits {
    /// Returns the record since the last call, and resets it.
    pub(crate) fn take(&self) -> Visit {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Service<Request<Full<Bytes>>> for Api {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let arrived = self.watch.now();
        let refusal = self.truth.refuses(request.headers().get(AUTHORIZATION));
        let work = Duration::from_millis(self.random.u64(WORK_MS));
        let (watch, visit) = (self.watch, Arc::clone(&self.visit));
        Box::pin(async move {
            tokio::time::sleep(work).await;
            let mut visit = visit.lock().unwrap_or_else(PoisonError::into_inner);
            visit.spent += watch.now() - arrived;
            visit.refusals += u32::from(refusal.is_some());
            Ok(answer(refusal))
        })
    }
}

/// Builds a response. A refusal gets a challenge (RFC 6750 §3.1).
fn answer(refusal: Option<&str>) -> Response<()> {
    let mut response = Response::new(());
    if let Some(why) = refusal {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let challenge = format!(r#"Bearer error="invalid_token", error_description="{why}""#);
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
    }
    response
}
