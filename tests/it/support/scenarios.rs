//! Scenarios that log or record something. They serve the tests of logs and metrics, and the tests
//! of the documentation about them.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::layer::Replay;
use tower_auth::oauth2::{Client, ClientCredentials, EndpointUrl, RefreshToken};
use tower_auth::{AuthLayer, Error, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{Api, ScriptedResponse, ScriptedSource};
use tower_service::Service;

use crate::support::token_server::{self, ID, SECRET, TokenServer, URL};
use crate::support::{paused, request};

/// Builds a cache in paused time with the name `orders`.
pub(crate) fn orders(source: impl TokenSource) -> TokenCache {
    paused(source).name("orders").build()
}

/// Returns an error for each value of `error.type`.
pub(crate) async fn errors() -> Vec<(Error, &'static str)> {
    let mut errors = vec![
        (Error::other("down"), "source"),
        (Error::transient("down"), "source"),
        (EndpointUrl::try_from("no-url").unwrap_err(), "config"),
        (Token::bearer("two\nlines").unwrap_err(), "illegal_token"),
    ];
    for (status, body, word) in [
        (404, "", "denied"),
        (400, r#"{"error":"of_its_own"}"#, "denied"),
        (200, "no json", "reply"),
        (400, r#"{"error":"invalid_request"}"#, "invalid_request"),
        (400, r#"{"error":"invalid_client"}"#, "invalid_client"),
        (400, r#"{"error":"invalid_grant"}"#, "invalid_grant"),
        (
            400,
            r#"{"error":"unauthorized_client"}"#,
            "unauthorized_client",
        ),
        (
            400,
            r#"{"error":"unsupported_grant_type"}"#,
            "unsupported_grant_type",
        ),
        (400, r#"{"error":"invalid_scope"}"#, "invalid_scope"),
        (
            503,
            r#"{"error":"temporarily_unavailable"}"#,
            "temporarily_unavailable",
        ),
        (500, r#"{"error":"server_error"}"#, "server_error"),
        (400, r#"{"error":"slow_down"}"#, "slow_down"),
        (400, r#"{"error":"use_dpop_nonce"}"#, "use_dpop_nonce"),
        (
            400,
            r#"{"error":"invalid_dpop_proof"}"#,
            "invalid_dpop_proof",
        ),
        (403, r#"{"error":"access_denied"}"#, "access_denied"),
    ] {
        errors.push((token_server::fetch(status, body).await.unwrap_err(), word));
    }
    let dead = TokenServer::new(400, r#"{"error":"invalid_grant"}"#);
    let client = Client::new(URL, ID, SECRET)
        .unwrap()
        .transport(dead.transport());
    let dead = RefreshToken::new(client, "dead").fetch(Reason::First).await;
    errors.push((dead.unwrap_err(), "login_required"));
    // These errors arise in the cache itself, so each comes from another cache.
    let hanging = paused(|_| std::future::pending());
    errors.push((hanging.build().token().await.unwrap_err(), "timeout"));
    let over = paused(|_| ready(Token::bearer("over").map(|t| t.expires_in(Duration::ZERO))));
    errors.push((over.build().token().await.unwrap_err(), "expired"));
    let panicking = paused(|_| async { panic!("a source that panics, as the test wants it") });
    errors.push((panicking.build().token().await.unwrap_err(), "panic"));
    let closed = paused(ScriptedSource::default()).build();
    closed.close().await;
    errors.push((closed.token().await.unwrap_err(), "closed"));
    let nowhere = paused(ScriptedSource::default()).build();
    let asked = std::thread::spawn(move || nowhere.token().now_or_never());
    let refused = asked.join().unwrap().unwrap().unwrap_err();
    errors.push((refused, "runtime"));
    let mut cleartext = request("");
    *cleartext.uri_mut() = "http://api.example.com".parse().unwrap();
    let client = crate::support::layer(ScriptedSource::default()).layer(Api::default());
    let kept_back = client.oneshot(cleartext).await.unwrap_err();
    errors.push((*kept_back.downcast().unwrap(), "origin"));
    let broken = service_fn(|_: Request<Full<Bytes>>| async {
        Err::<Response<Full<Bytes>>, _>(std::io::Error::other("the line is cut"))
    });
    let source = ClientCredentials::new(URL, ID, SECRET)
        .unwrap()
        .transport(broken);
    let broken = source.fetch(Reason::First).await.unwrap_err();
    errors.push((broken, "transport"));
    errors
}

/// The reasons why a refused request isn't replayed.
pub(crate) const REFUSALS: &[&str] = &[
    "off",
    "insufficient_scope",
    "insufficient_user_authentication",
    "no_challenge",
    #[cfg(feature = "reqwest")]
    "elsewhere",
    "body",
    "fetch",
    "refusal_budget",
    "resource",
    "same_token",
    "not_ready",
    "again",
];

/// Sends a request that is refused and isn't replayed for this reason.
pub(crate) async fn refuse_without_replay(word: &str) {
    let layer = crate::support::layer_from(orders(ScriptedSource::default()));
    let of = |source| crate::support::layer_from(orders(source));
    match word {
        "off" => refused(layer.retry(false), Api::default()).await,
        "insufficient_scope" | "insufficient_user_authentication" => {
            let challenge = format!(r#"Bearer error="{word}""#);
            let api = service_fn(move |_: Request<Full<Bytes>>| {
                let challenge = challenge.clone();
                async move {
                    let response = Response::builder().status(401);
                    response.header("www-authenticate", challenge).body(())
                }
            });
            refused(layer, api).await;
        }
        "no_challenge" => {
            let api = Api::default();
            api.respond_always(ScriptedResponse::new(401));
            refused(layer.retry_without_challenge(false), api).await;
        }
        #[cfg(feature = "reqwest")]
        "elsewhere" => {
            let url = "https://api.example.com".parse().unwrap();
            let request = reqwest::Request::new(http::Method::GET, url);
            // A response that followed a redirect to another origin.
            let api = service_fn(|_: reqwest::Request| async {
                use reqwest::ResponseBuilderExt;
                let url = "https://elsewhere.example.com".parse().unwrap();
                let response = Response::builder().status(401).url(url).body("");
                response.map(reqwest::Response::from)
            });
            let response = layer.layer(api).oneshot(request).await.unwrap();
            assert_eq!(response.status(), 401);
        }
        "body" => {
            let request = request("").map(|_| Once);
            let api = service_fn(|_| ready(Response::builder().status(401).body(())));
            let response = layer.layer(api).oneshot(request).await.unwrap();
            assert_eq!(response.status(), 401);
        }
        "fetch" => {
            let source = ScriptedSource::from_fn(|attempt| match attempt {
                1 => Token::bearer("token"),
                _ => Err(Error::other("down")),
            });
            refused(of(source), Api::default()).await;
        }
        "refusal_budget" => {
            for _ in 0..2 {
                refused(layer.clone(), Api::default()).await;
            }
        }
        "resource" => refuse_one_resource(layer).await,
        "same_token" => {
            let same = Token::bearer("kept").unwrap();
            refused(
                of(ScriptedSource::from_fn(move |_| same.clone())),
                Api::default(),
            )
            .await;
        }
        "not_ready" => refused(layer, Broken::default()).await,
        "again" => refused(layer, Api::default()).await,
        word => panic!("no request stands for `{word}`"),
    }
}

/// Sends requests to an API whose `/admin` refuses every token.
async fn refuse_one_resource(layer: AuthLayer) {
    let client = layer.layer(service_fn(|request: Request<Full<Bytes>>| {
        let status = match request.uri().path() {
            "/admin" => StatusCode::UNAUTHORIZED,
            _ => StatusCode::OK,
        };
        let mut response = Response::new(());
        *response.status_mut() = status;
        ready(Ok::<_, Infallible>(response))
    }));
    let call = async |path: &str| {
        let mut request = request("");
        *request.uri_mut() = format!("https://api.example.com{path}").parse().unwrap();
        client.clone().oneshot(request).await.unwrap()
    };
    call("/").await;
    // Uses up the budget, and shows that the resource refuses tokens of any age.
    call("/admin").await;
    // Shows that another resource accepts the new token.
    call("/").await;
    assert_eq!(call("/admin").await.status(), StatusCode::UNAUTHORIZED);
}

async fn refused<S, B>(layer: AuthLayer, api: S)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
    S::Error: Into<tower_auth::BoxError>,
{
    let response = layer.layer(api).oneshot(request("body")).await.unwrap();
    assert_eq!(response.status(), 401);
}

/// A body that can't be sent again.
struct Once;

impl Replay for Once {
    type Copy = Infallible;

    fn record(&mut self, _: usize) -> Option<Infallible> {
        None
    }

    fn replay(copy: Infallible) -> Option<Self> {
        match copy {}
    }
}

/// A service that refuses one request. Afterwards neither it nor its clones become ready.
#[derive(Clone, Default)]
struct Broken {
    is_used: Arc<AtomicBool>,
}

impl Service<Request<Full<Bytes>>> for Broken {
    type Response = Response<()>;
    type Error = std::io::Error;
    type Future = Ready<Result<Response<()>, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(match self.is_used.load(Ordering::Relaxed) {
            true => Err(std::io::Error::other("the pool is closed")),
            false => Ok(()),
        })
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        self.is_used.store(true, Ordering::Relaxed);
        let mut refusal = Response::new(());
        *refusal.status_mut() = StatusCode::UNAUTHORIZED;
        ready(Ok(refusal))
    }
}

/// A source that issues nothing. The variant says how its `close` fails.
pub(crate) enum FailingClose {
    Fails,
    Panics,
    Hangs,
}

impl TokenSource for FailingClose {
    async fn fetch(&self, _: Reason) -> Result<Token, Error> {
        Err(Error::other("it issues nothing"))
    }

    async fn close(&self, _: Option<Token>) -> Result<(), Error> {
        match self {
            Self::Fails => Err(Error::other("the line is cut")),
            Self::Panics => panic!("a source that panics, as the test wants it"),
            Self::Hangs => std::future::pending().await,
        }
    }
}
