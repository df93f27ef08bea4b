//! The layer together with other middleware. The tests cover what each combination could get wrong.
//! The tests use both orders if both make sense.
//!
//! `docs::composing` explains what each order means.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::Full;
use tower_service::Service;

mod connections;
mod decompression;
#[cfg(feature = "tonic")]
mod grpc;
mod limits;
mod opentelemetry;
mod redirects;
#[cfg(feature = "reqwest-middleware")]
mod reqwest_middleware;
mod retry;
mod set_header;
mod timeout;
mod trace;

/// An API that responds with these statuses in turn, and then always with 200. The statuses don't
/// depend on the requests.
#[derive(Clone)]
struct Script {
    responses: Arc<Mutex<VecDeque<u16>>>,
    /// All `Authorization` values of each request.
    seen: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Script {
    fn new(responses: impl IntoIterator<Item = u16>) -> Self {
        Self {
            responses: Arc::new(Mutex::new(responses.into_iter().collect())),
            seen: Arc::default(),
        }
    }

    fn seen(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|values| values.join(" and ")).collect()
    }
}

impl<B> Service<Request<B>> for Script {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let values = request.headers().get_all(AUTHORIZATION).iter();
        let values = values.map(|value| value.to_str().unwrap().to_owned());
        self.seen.lock().unwrap().push(values.collect());
        let status = self.responses.lock().unwrap().pop_front().unwrap_or(200);
        let response = Response::builder().status(status);
        ready(Ok(response.body(Full::from("done")).unwrap()))
    }
}
