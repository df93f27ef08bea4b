//! The memory cost of a request. With a fresh token, the layer allocates no more memory than a
//! layer that adds a fixed header.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, Ready, poll_fn, ready};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderName, Request, Response};
use http_body_util::Full;
use tower::Layer;
use tower_auth::{Auth, AuthLayer, Token, TokenCache};
use tower_auth_test::controlled_source;
use tower_http::set_header::SetRequestHeaderLayer;
use tower_service::Service;

/// A client that allocates nothing.
#[derive(Clone, Debug)]
struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

/// Builds a request with this many headers. No two headers share memory.
fn request(headers: usize) -> Request<Full<Bytes>> {
    let mut request = Request::post(String::from("https://api.example.com/things?a=b"))
        .body(Full::from(vec![7; 1_000]))
        .unwrap();
    for n in 0..headers {
        let name = HeaderName::try_from(format!("x-header-{n}")).unwrap();
        let value = HeaderValue::try_from(format!("value {n}")).unwrap();
        request.headers_mut().insert(name, value);
    }
    request
}

fn with_own_credential() -> Request<Full<Bytes>> {
    let mut request = request(1);
    let own = HeaderValue::from_static("Basic b3du");
    request.headers_mut().insert(AUTHORIZATION, own);
    request
}

/// The number of allocations and of allocated bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    times: u64,
    bytes: u64,
}

impl From<AllocationInfo> for Cost {
    fn from(info: AllocationInfo) -> Self {
        Self {
            times: info.count_total,
            bytes: info.bytes_total,
        }
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            times: self.times + other.times,
            bytes: self.bytes + other.bytes,
        }
    }
}

const NOTHING: Cost = Cost { times: 0, bytes: 0 };

/// Returns the cost from `poll_ready` to the response. The response is ready at once.
fn cost_of_calling<S, B>(client: &mut S, request: Request<B>) -> Cost
where
    S: Service<Request<B>>,
{
    let mut has_response = false;
    let info = measure(|| {
        let mut cx = Context::from_waker(Waker::noop());
        let is_ready = client.poll_ready(&mut cx);
        assert!(matches!(is_ready, Poll::Ready(Ok(()))));
        let response = pin!(client.call(request)).poll(&mut cx);
        has_response = matches!(response, Poll::Ready(Ok(_)));
    });
    assert!(has_response);
    info.into()
}

/// Returns the cost of a layer that inserts a fixed header. No layer can cost less.
fn cost_of_a_fixed_header(headers: usize) -> Cost {
    let mut value = HeaderValue::from_static("Bearer token");
    value.set_sensitive(true);
    let layer = SetRequestHeaderLayer::overriding(AUTHORIZATION, value);
    cost_of_calling(&mut layer.layer(Bare), request(headers))
}

/// Returns the cost of cloning a whole replayable request.
fn cost_of_a_clone(headers: usize) -> Cost {
    let request = request(headers);
    let clone = measure(|| drop(std::hint::black_box(request.clone())));
    clone.into()
}

/// Builds a client whose token is fresh for an hour, and sends three requests.
async fn warm(set: impl FnOnce(AuthLayer) -> AuthLayer) -> Auth<Bare> {
    let layer = crate::support::layer(|_| async {
        Ok(Token::bearer("token")?.expires_in(Duration::from_secs(3_600)))
    });
    layer.cache().token().await.unwrap();
    let mut client = set(layer).layer(Bare);
    for _ in 0..3 {
        cost_of_calling(&mut client, request(0));
    }
    client
}

#[tokio::test]
async fn without_retry_a_request_costs_what_a_fixed_header_costs() {
    let mut client = warm(|layer| layer.retry(false)).await;
    for headers in [0, 1, 5] {
        let cost = cost_of_calling(&mut client, request(headers));
        assert_eq!(cost, cost_of_a_fixed_header(headers), "{headers} headers");
    }
    // If the header map has room, the cost is zero. So the layer doesn't box a future.
    let mut roomy = request(0);
    roomy.headers_mut().reserve(4);
    assert_eq!(cost_of_calling(&mut client, roomy), NOTHING);
}

/// The layer's copy of the request takes one allocation for itself and one for the list of headers.
/// A clone of the request takes two more for its headers, if it has any.
#[tokio::test]
async fn with_retry_a_request_costs_a_clone_and_what_a_fixed_header_costs() {
    let mut client = warm(|layer| layer).await;
    for headers in [1, 5] {
        let cost = cost_of_calling(&mut client, request(headers));
        let clone_and_header = cost_of_a_clone(headers) + cost_of_a_fixed_header(headers);
        assert_eq!(cost.times, clone_and_header.times, "{headers} headers");
    }
    let cost = cost_of_calling(&mut client, request(0));
    let clone_and_header = cost_of_a_clone(0) + cost_of_a_fixed_header(0);
    assert_eq!(cost.times, clone_and_header.times + 1);
}

#[tokio::test]
async fn restrictions_and_rules_of_ones_own_cost_nothing() {
    let mut client = warm(|layer| {
        layer
            .retry(false)
            .only_to(["https://api.example.com", "https://other.example.com"])
            .unwrap()
            .refused_if(|status, _| status.as_u16() == 419)
    })
    .await;
    let cost = cost_of_calling(&mut client, request(1));
    assert_eq!(cost, cost_of_a_fixed_header(1));
}

#[tokio::test]
async fn a_request_with_the_callers_own_credential_costs_nothing() {
    assert_eq!(cost_of_calling(&mut Bare, with_own_credential()), NOTHING);
    for retry in [false, true] {
        let mut client = warm(|layer| layer.retry(retry)).await;
        let cost = cost_of_calling(&mut client, with_own_credential());
        assert_eq!(cost, NOTHING);
        // A new clone has no private copy of the header. Its first request costs nothing either.
        let cost = cost_of_calling(&mut client.clone(), with_own_credential());
        assert_eq!(cost, NOTHING);
    }
}

#[tokio::test]
async fn cloning_a_service_or_a_layer_or_a_cache_costs_nothing() {
    let client = warm(|layer| layer).await;
    let layer = crate::support::layer(|_| async { Token::bearer("token") });
    let token = layer.cache().token().await.unwrap();
    let info = measure(|| {
        let client = client.clone();
        drop((client.clone(), client));
        drop((layer.clone(), layer.cache().clone(), token.clone()));
    });
    assert_eq!(Cost::from(info), NOTHING);
}

/// Some clients clone the service for every request, so each request is the first of a clone.
#[tokio::test]
async fn the_first_request_of_a_clone_costs_what_a_fixed_header_costs() {
    let client = warm(|layer| layer.retry(false)).await;
    for headers in [0, 1, 5] {
        let cost = cost_of_calling(&mut client.clone(), request(headers));
        assert_eq!(cost, cost_of_a_fixed_header(headers), "{headers} headers");
    }
}

#[tokio::test]
async fn a_fresh_token_from_the_cache_costs_nothing() {
    let cache = TokenCache::new(|_| async { Token::bearer("token") });
    cache.token().await.unwrap();
    let info = measure(|| {
        let mut cx = Context::from_waker(Waker::noop());
        let token = Pin::new(&mut cache.token()).poll(&mut cx);
        assert!(matches!(token, Poll::Ready(Ok(_))));
    });
    assert_eq!(Cost::from(info), NOTHING);
}

/// Most of this memory is Tokio's task.
#[test]
#[allow(clippy::print_stdout, reason = "a figure to look at")]
fn memory_of_a_waiting_caller() {
    const CALLERS: usize = 10_000;
    const MOST: i64 = 384;

    thread_local! {
        static POLLED: Cell<usize> = const { Cell::new(0) };
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let mut callers = Vec::with_capacity(CALLERS);
    let info = measure(|| {
        runtime.block_on(async {
            for _ in 0..CALLERS {
                let mut waiting = cache.token();
                callers.push(tokio::spawn(poll_fn(move |cx| {
                    POLLED.set(POLLED.get() + 1);
                    Pin::new(&mut waiting).poll(cx)
                })));
            }
            while POLLED.get() < CALLERS {
                tokio::task::yield_now().await;
            }
        });
    });
    assert_eq!(POLLED.get(), CALLERS);
    let each = info.bytes_current / i64::try_from(CALLERS).unwrap();
    println!("{each} bytes for each waiting caller");
    assert!((1..=MOST).contains(&each), "{each} bytes");

    // This proves that all callers waited for the same fetch.
    runtime.block_on(async {
        fetches.next().await.issue("token");
        for caller in callers {
            assert_eq!(caller.await.unwrap().unwrap().secret(), "token");
        }
        fetches.assert_none().await;
    });
}

/// The caller's own task isn't counted.
#[tokio::test]
#[allow(clippy::print_stdout, reason = "a figure to look at")]
async fn memory_of_a_waiting_request_beside_its_headers_and_body() {
    const WAITING: usize = 1_000;
    const MOST: i64 = 500;

    let (source, mut fetches) = controlled_source();
    let client = crate::support::layer(source).layer(Bare);
    let mut waiting = Vec::with_capacity(WAITING);
    let mut wait = |request| {
        let mut response = client.clone().call(request);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut response).poll(&mut cx).is_pending());
        waiting.push(response);
    };
    wait(request(5));
    drop(fetches.next().await);
    let requests: Vec<_> = (1..WAITING).map(|_| request(5)).collect();
    let info = measure(|| requests.into_iter().for_each(wait));
    // The vector of requests is freed, but the memory of headers and bodies isn't.
    let inline = i64::try_from(size_of::<Request<Full<Bytes>>>()).unwrap();
    let each = info.bytes_current / i64::try_from(WAITING - 1).unwrap() + inline;
    println!("{each} bytes for each waiting request");
    assert!((1..=MOST).contains(&each), "{each} bytes");
}

/// Half of this memory is the cache itself. A completed fetch that keeps its task would add the
/// same amount.
#[cfg(feature = "tenants")]
#[test]
#[allow(clippy::print_stdout, reason = "a figure to look at")]
fn memory_of_an_idle_tenant_with_a_token_in_hand() {
    const TENANTS: usize = 2_000;
    const MOST: i64 = 1_720;

    let tenants = tower_auth::tenants::Tenants::new(|_: &usize| {
        Ok(crate::support::layer(|_| ready(Token::bearer("secret"))))
    });
    let runtime = crate::support::runtime();
    let info = measure(|| {
        runtime.block_on(async {
            for tenant in 0..TENANTS {
                let tenant = tenants.get(&tenant).unwrap();
                tenant.cache().token().await.unwrap();
            }
        });
    });
    assert_eq!(tenants.len(), TENANTS);
    let each = info.bytes_current / i64::try_from(TENANTS).unwrap();
    println!("{each} bytes for each idle tenant");
    assert!((1..=MOST).contains(&each), "{each} bytes");
}
