//! A redirect leads the client below the layer to another origin. That origin doesn't get the
//! token, so its response says nothing about the token.
//!
//! Each test uses every way in which the layer learns a response's origin. Each test also checks
//! that the same response counts if it comes from the request's own origin.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION};
use http::{Extensions, HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tower::util::BoxCloneService;
use tower::{Layer, ServiceExt};
use tower_auth::cache::Clock;
use tower_auth::challenge::{Challenge, StepUpChallenge};
use tower_auth::layer::AuthResponse;
use tower_auth::{AuthLayer, BoxError, Error, NotReplayed, Reason, Token, TokenSource};
use tower_auth_test::{ScriptedSource, run_until_idle};
use tower_service::Service;

use crate::support::{call, clocked};

type Sent = Request<Full<Bytes>>;
type Answer = Response<Full<Bytes>>;
type MakeAnswer = fn() -> Answer;

// ---- the servers

/// An API, and another origin to which the API redirects `/moved`.
#[derive(Clone)]
struct Servers {
    /// The response of the other origin. The API gives the same response to `/own`.
    response: fn() -> Answer,
    inner: Arc<Mutex<Inner>>,
    /// The other origin's address.
    stranger: Arc<Mutex<String>>,
}

#[derive(Default)]
struct Inner {
    /// The token that the API refuses.
    refused: Option<&'static str>,
    /// The headers of the requests to the API and to the other origin.
    to_api: Vec<HeaderMap>,
    to_stranger: Vec<HeaderMap>,
}

const API: &str = "https://api.example.com";

impl Servers {
    fn new(response: fn() -> Answer) -> Self {
        Self {
            response,
            inner: Arc::default(),
            stranger: Arc::new(Mutex::new("https://evil.example".into())),
        }
    }

    fn refuse(&self, credential: Option<&'static str>) {
        self.inner.lock().unwrap().refused = credential;
    }

    /// Returns the values of this header in the requests to the API, or `-` for none.
    fn seen(&self, name: &str) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        let values = inner.to_api.iter().map(|headers| headers.get(name));
        values
            .map(|value| value.map_or("-".into(), |value| value.to_str().unwrap().into()))
            .collect()
    }

    fn times_at_stranger(&self) -> usize {
        self.inner.lock().unwrap().to_stranger.len()
    }

    fn api(&self, path: &str, headers: &HeaderMap) -> Answer {
        let mut inner = self.inner.lock().unwrap();
        inner.to_api.push(headers.clone());
        let credential = headers
            .get(AUTHORIZATION)
            .map(|value| value.to_str().unwrap());
        if credential.is_some() && credential == inner.refused {
            return status(401);
        }
        match path {
            "/own" => (self.response)(),
            "/moved" => {
                let location = format!("{}/x", self.stranger.lock().unwrap());
                with(status(303), LOCATION.as_str(), &location)
            }
            _ => status(200),
        }
    }

    fn stranger(&self, headers: &HeaderMap) -> Answer {
        for name in [AUTHORIZATION, COOKIE] {
            assert!(!headers.contains_key(&name), "the stranger got `{name}`");
        }
        self.inner.lock().unwrap().to_stranger.push(headers.clone());
        (self.response)()
    }
}

impl Service<Sent> for Servers {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        let (uri, headers) = (request.uri(), request.headers());
        ready(Ok(match uri.host() {
            Some("evil.example") => self.stranger(headers),
            _ => self.api(uri.path(), headers),
        }))
    }
}

fn status(code: u16) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn with(mut response: Answer, name: &'static str, value: &str) -> Answer {
    response.headers_mut().append(name, value.parse().unwrap());
    response
}

// ---- the clients that follow redirects

/// The client that follows redirects. This client decides how the layer learns a response's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follower {
    /// A client that records the URI in an extension of its own.
    Own,
    #[cfg(feature = "tower-http")]
    TowerHttp,
    #[cfg(feature = "reqwest")]
    Reqwest,
}

const FOLLOWERS: &[Follower] = &[
    Follower::Own,
    #[cfg(feature = "tower-http")]
    Follower::TowerHttp,
    #[cfg(feature = "reqwest")]
    Follower::Reqwest,
];

/// The URI that a response came from.
#[derive(Clone)]
struct AnsweredAt(Uri);

/// A client that follows one redirect and sends no header to the target.
#[derive(Clone)]
struct OwnFollower(Servers);

impl Service<Sent> for OwnFollower {
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        let mut servers = self.0.clone();
        Box::pin(async move {
            let mut uri = request.uri().clone();
            let mut response = servers.call(request).await?;
            if let Some(location) = response.headers().get(LOCATION) {
                uri = location.to_str().unwrap().parse().unwrap();
                let next = Request::get(uri.clone()).body(Full::default()).unwrap();
                response = servers.call(next).await?;
            }
            response.extensions_mut().insert(AnsweredAt(uri));
            Ok(response)
        })
    }
}

/// A client that follows redirects, below the layer.
struct Client {
    service: BoxCloneService<Sent, Response<()>, BoxError>,
    api: String,
}

impl Client {
    async fn new(follower: Follower, layer: &AuthLayer, servers: &Servers) -> Self {
        let servers = servers.clone();
        let (service, api) = match follower {
            Follower::Own => {
                let layer = layer.clone().answered_by(|extensions| {
                    let AnsweredAt(uri) = extensions.get()?;
                    Some(uri.clone())
                });
                let service = layer.layer(OwnFollower(servers));
                (boxed(service), API.to_owned())
            }
            #[cfg(feature = "tower-http")]
            Follower::TowerHttp => {
                use tower_http::follow_redirect::FollowRedirectLayer;
                let service = layer.layer(FollowRedirectLayer::new().layer(servers));
                (boxed(service), API.to_owned())
            }
            #[cfg(feature = "reqwest")]
            Follower::Reqwest => {
                let stranger = serve(servers.clone(), true).await;
                *servers.stranger.lock().unwrap() = stranger;
                let api = serve(servers, false).await;
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                let service = layer.layer(client).map_request(|request: Sent| {
                    use futures_util::FutureExt;
                    use http_body_util::BodyExt;
                    let (head, body) = request.into_parts();
                    let body = body.collect().now_or_never().unwrap().unwrap().to_bytes();
                    reqwest::Request::try_from(Request::from_parts(head, body)).unwrap()
                });
                let service = service
                    .map_response(|response| Response::from(response).map(drop::<reqwest::Body>));
                (BoxCloneService::new(service), api)
            }
        };
        Self { service, api }
    }

    async fn send(&mut self, path: &str) -> Response<()> {
        let uri = format!("{}{path}", self.api);
        self.send_to(&uri).await
    }

    async fn send_to(&mut self, uri: &str) -> Response<()> {
        let request = Request::post(uri).body(Full::from("hello")).unwrap();
        call(&mut self.service, request).await.unwrap()
    }
}

fn boxed<S>(service: S) -> BoxCloneService<Sent, Response<()>, BoxError>
where
    S: Service<Sent, Response = Answer, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    BoxCloneService::new(service.map_response(|response: Answer| response.map(drop)))
}

/// Serves the API or the other origin on loopback, and returns the address.
#[cfg(feature = "reqwest")]
async fn serve(servers: Servers, is_stranger: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(move |uri: Uri, headers: HeaderMap| {
        let response = match is_stranger {
            true => servers.stranger(&headers),
            false => servers.api(uri.path(), &headers),
        };
        ready(response.map(axum::body::Body::new))
    });
    tokio::spawn(axum::serve(listener, router).into_future());
    format!("http://{address}")
}

#[track_caller]
fn is_elsewhere(response: &Response<()>) {
    let why = response.extensions().get::<NotReplayed>();
    assert!(matches!(why, Some(NotReplayed::Elsewhere)), "{why:?}");
}

// ---- refusals

/// A source for which a 418 is a refusal.
struct Refusing(ScriptedSource);

impl TokenSource for Refusing {
    fn fetch(&self, reason: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        self.0.fetch(reason)
    }

    fn is_refusal(&self, status: StatusCode, _: &HeaderMap) -> bool {
        status == StatusCode::IM_A_TEAPOT
    }
}

/// All responses that refuse a token. The `bool` says whether the layer needs a rule for this
/// response.
const REFUSALS: [(MakeAnswer, bool); 4] = [
    (|| status(401), false),
    (
        || {
            let response = with(status(200), "content-type", "application/grpc");
            with(response, "grpc-status", "16")
        },
        false,
    ),
    (|| status(419), true),
    (|| status(418), false),
];

fn layer(source: &ScriptedSource, has_rule: bool) -> AuthLayer {
    let layer = crate::support::layer(Refusing(source.clone()));
    match has_rule {
        true => layer.refused_if(|status, _| status.as_u16() == 419),
        false => layer,
    }
}

#[tokio::test]
async fn a_strangers_refusal_costs_no_token_and_the_apis_own_does() {
    for &follower in FOLLOWERS {
        for (at, (response, has_rule)) in REFUSALS.into_iter().enumerate() {
            let case = format!("{follower:?} {at}");
            let (source, servers) = (ScriptedSource::default(), Servers::new(response));
            let layer = layer(&source, has_rule);
            for layer in [
                layer.clone(),
                layer.clone().retry(false),
                layer.clone().body_limit(0),
            ] {
                let mut client = Client::new(follower, &layer, &servers).await;
                let refusal = client.send("/moved").await;
                assert_eq!(refusal.status(), response().status(), "{case}");
                is_elsewhere(&refusal);
            }
            assert_eq!(servers.times_at_stranger(), 3, "{case}");
            layer.cache().token().await.unwrap();
            assert_eq!(source.tokens_issued(), 1, "{case}");

            let mut client = Client::new(follower, &layer.clone().retry(false), &servers).await;
            let refusal = client.send("/own").await;
            let why = refusal.extensions().get();
            assert!(matches!(why, Some(NotReplayed::Off)), "{case}: {why:?}");
            run_until_idle().await;
            assert_eq!(source.tokens_issued(), 2, "{case}");
        }
    }
}

#[tokio::test]
async fn a_strangers_refusal_of_the_replay_costs_no_second_token_and_the_apis_own_does() {
    for &follower in FOLLOWERS {
        for (at, (response, has_rule)) in REFUSALS.into_iter().enumerate() {
            let case = format!("{follower:?} {at}");
            let (source, servers) = (ScriptedSource::default(), Servers::new(response));
            servers.refuse(Some("Bearer token-1"));
            let layer = layer(&source, has_rule);
            let mut client = Client::new(follower, &layer, &servers).await;
            let refusal = client.send("/moved").await;
            is_elsewhere(&refusal);
            assert_eq!(
                servers.seen("authorization"),
                ["Bearer token-1", "Bearer token-2"]
            );
            assert_eq!(servers.times_at_stranger(), 1, "{case}");
            assert_eq!(
                layer.cache().token().await.unwrap().secret(),
                "token-2",
                "{case}"
            );
            assert_eq!(source.tokens_issued(), 2, "{case}");
            assert!(
                layer.cache().status().refusals_limited_until().is_none(),
                "{case}"
            );

            // If the API itself sends this response, it counts. The second token is refused too,
            // which uses up the budget.
            let (source, servers) = (ScriptedSource::default(), Servers::new(response));
            servers.refuse(Some("Bearer token-1"));
            let layer = self::layer(&source, has_rule);
            let mut client = Client::new(follower, &layer, &servers).await;
            let refusal = client.send("/own").await;
            let why = refusal.extensions().get();
            assert!(matches!(why, Some(NotReplayed::Again)), "{case}: {why:?}");
            assert!(
                layer.cache().status().refusals_limited_until().is_some(),
                "{case}"
            );
        }
    }
}

/// The resource has accepted the token, so its refusal proves a revocation. So the cache fetches at
/// once. Without the acceptance, the next fetch has to wait.
#[tokio::test]
async fn a_strangers_success_accepts_no_token_and_the_apis_own_does() {
    for &follower in FOLLOWERS {
        for (path, is_accepted) in [("/moved", false), ("/own", true)] {
            for on_replay in [false, true] {
                let case = format!("{follower:?} {path} {on_replay}");
                let (source, servers) = (ScriptedSource::default(), Servers::new(|| status(200)));
                let clock = Clock::manual();
                let cache = clocked(source.clone(), &clock).build();
                let layer = crate::support::layer_from(cache);
                let mut client = Client::new(follower, &layer, &servers).await;
                servers.refuse(Some("Bearer token-1"));
                if on_replay {
                    // The response to the replay is the first response to `token-2`.
                    assert_eq!(client.send(path).await.status(), 200, "{case}");
                } else {
                    layer.cache().token().await.unwrap();
                    layer.cache().reject(&layer.cache().token().await.unwrap());
                    layer.cache().token().await.unwrap();
                    assert_eq!(client.send(path).await.status(), 200, "{case}");
                }
                assert_eq!(source.tokens_issued(), 2, "{case}");
                clock.advance(Duration::from_secs(3));
                servers.refuse(Some("Bearer token-2"));
                let response = client.send(path).await;
                let (status, why) = (response.status(), response.extensions().get());
                match is_accepted {
                    true => assert_eq!(
                        (status.as_u16(), source.tokens_issued()),
                        (200, 3),
                        "{case}"
                    ),
                    false => assert!(
                        matches!(why, Some(NotReplayed::RefusalBudget)),
                        "{case}: {status} {why:?}"
                    ),
                }
            }
        }
    }
}

// ---- step-up challenges

/// A source that fetches a better token for any challenge.
#[derive(Clone, Default)]
struct Steps {
    source: ScriptedSource,
    challenged: Arc<AtomicUsize>,
}

impl TokenSource for Steps {
    fn fetch(&self, reason: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        self.source.fetch(reason)
    }

    fn challenged(&self, _: &Token, _: &[Challenge]) -> bool {
        self.challenged.fetch_add(1, Ordering::SeqCst);
        true
    }
}

fn scope_wanted() -> Answer {
    let challenge = r#"Bearer error="insufficient_scope", scope="admin""#;
    with(status(403), "www-authenticate", challenge)
}

fn login_wanted() -> Answer {
    let challenge = r#"Bearer error="insufficient_user_authentication", acr_values="mfa""#;
    with(status(401), "www-authenticate", challenge)
}

#[tokio::test]
async fn a_strangers_step_up_challenge_asks_for_nothing_and_the_apis_own_does() {
    for &follower in FOLLOWERS {
        for response in [scope_wanted as fn() -> Answer, login_wanted] {
            for retry in [true, false] {
                let (source, servers) = (Steps::default(), Servers::new(response));
                let layer = crate::support::layer(source.clone()).retry(retry);
                let mut client = Client::new(follower, &layer, &servers).await;
                let moved = client.send("/moved").await;
                is_elsewhere(&moved);
                assert!(moved.extensions().get::<StepUpChallenge>().is_none());
                assert_eq!(source.challenged.load(Ordering::SeqCst), 0);
                assert_eq!(source.source.tokens_issued(), 1);

                let own = client.send("/own").await;
                assert!(own.extensions().get::<StepUpChallenge>().is_some());
                assert_eq!(source.challenged.load(Ordering::SeqCst), usize::from(retry));
                assert_eq!(source.source.tokens_issued(), 1 + usize::from(retry));
            }
        }
    }
}

/// A 403 without a challenge is not a refusal, whichever origin sends it.
#[tokio::test]
async fn a_strangers_403_without_a_challenge_is_returned_as_it_is() {
    for &follower in FOLLOWERS {
        let (source, servers) = (ScriptedSource::default(), Servers::new(|| status(403)));
        let layer = crate::support::layer(source.clone());
        let mut client = Client::new(follower, &layer, &servers).await;
        for path in ["/moved", "/own"] {
            let response = client.send(path).await;
            assert_eq!(response.status(), 403);
            assert!(response.extensions().get::<NotReplayed>().is_none());
        }
        assert_eq!(source.tokens_issued(), 1);
    }
}

/// `ProtectedResource` doesn't get the metadata address (RFC 9728) that another origin's response
/// names.
#[tokio::test]
async fn a_strangers_challenge_of_a_refusal_reaches_no_source() {
    for &follower in FOLLOWERS {
        let (source, servers) = (
            Steps::default(),
            Servers::new(|| {
                let metadata = r#"Bearer resource_metadata="https://evil.example/metadata""#;
                with(status(401), "www-authenticate", metadata)
            }),
        );
        let layer = crate::support::layer(source.clone());
        let mut client = Client::new(follower, &layer, &servers).await;
        is_elsewhere(&client.send("/moved").await);
        assert_eq!(source.challenged.load(Ordering::SeqCst), 0);
        client.send("/own").await;
        assert_eq!(source.challenged.load(Ordering::SeqCst), 1);
    }
}

// ---- cookies and proofs

#[cfg(feature = "cookies")]
#[tokio::test]
async fn a_strangers_cookies_change_no_session_and_the_apis_own_do() {
    use crate::support::session_site::Site;

    const SETS: [(MakeAnswer, &str); 4] = [
        (
            || with(status(200), "set-cookie", "sid=theirs; Path=/"),
            "sid=theirs",
        ),
        (
            || with(status(401), "set-cookie", "sid=theirs; Path=/"),
            "sid=1",
        ),
        (
            || with(status(200), "set-cookie", "more=1; Path=/"),
            "more=1; sid=1",
        ),
        // This response ends the API's session, so the next request has a new one.
        (
            || with(status(200), "set-cookie", "sid=; Path=/; Max-Age=0"),
            "sid=1",
        ),
    ];
    for &follower in FOLLOWERS {
        // With reqwest, the API is on loopback, where the cookies of the login's origin don't go.
        #[cfg(feature = "reqwest")]
        if follower == Follower::Reqwest {
            continue;
        }
        for (at, (response, then)) in SETS.into_iter().enumerate() {
            let case = format!("{follower:?} {at}");
            let site = Site::setting(["sid=1; Path=/"]);
            let servers = Servers::new(response);
            let layer = AuthLayer::new(site.session()).retry(false);
            let mut client = Client::new(follower, &layer, &servers).await;
            for path in ["/moved", "/other"] {
                client.send(path).await;
            }
            assert_eq!(servers.seen("cookie"), ["sid=1", "sid=1"], "{case}");
            assert_eq!(site.logins(), 1, "{case}");
            for path in ["/own", "/other"] {
                client.send(path).await;
                let mut changes = layer.cache().subscribe();
                let fetched = changes.wait_for(|status| status.fetching().is_none());
                fetched.await.unwrap();
            }
            assert_eq!(servers.seen("cookie")[3], then, "{case}");
            let is_over = then == "sid=1";
            assert_eq!(site.logins(), 1 + usize::from(is_over), "{case}");
        }
    }
}

#[cfg(feature = "dpop")]
#[tokio::test]
async fn a_strangers_nonce_is_not_learned_and_the_apis_own_is() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use tower_auth::oauth2::{Client as OAuthClient, ClientCredentials, DpopKey};

    use crate::support::token_server::{ID, SECRET};
    use crate::support::web::{Page, Web};

    fn nonce(proof: &str) -> Option<String> {
        let claims = URL_SAFE_NO_PAD.decode(proof.split('.').nth(1).unwrap());
        let claims: serde_json::Value = serde_json::from_slice(&claims.unwrap()).unwrap();
        claims
            .get("nonce")
            .map(|nonce| nonce.as_str().unwrap().to_owned())
    }

    const TOKEN: &str = "https://id.example/token";
    const NONCES: [fn() -> Answer; 2] = [
        || with(status(200), "dpop-nonce", "theirs"),
        || {
            let wanted = with(status(401), "dpop-nonce", "theirs");
            with(wanted, "www-authenticate", r#"DPoP error="use_dpop_nonce""#)
        },
    ];
    for &follower in FOLLOWERS {
        for response in NONCES {
            let web = Web::default();
            let token = serde_json::json!({
                "access_token": "bound", "token_type": "DPoP", "expires_in": 3600,
            });
            web.put(TOKEN, Page::json(200, &token));
            let client = OAuthClient::new(TOKEN, ID, SECRET).unwrap();
            let client = client.transport(web.transport());
            let client = client.dpop(DpopKey::generate().unwrap());
            let source = ClientCredentials::with_client(client);
            let (layer, servers) = (crate::support::layer(source), Servers::new(response));
            let mut client = Client::new(follower, &layer, &servers).await;
            for path in ["/moved", "/other", "/own", "/other"] {
                client.send(path).await;
            }
            let proofs = servers.seen("dpop");
            let nonces: Vec<_> = proofs.iter().map(|proof| nonce(proof)).collect();
            let (last, before) = nonces.split_last().unwrap();
            assert_eq!(before[..3], [None, None, None], "{follower:?}");
            assert_eq!(last.as_deref(), Some("theirs"), "{follower:?}");
        }
    }
}

// ---- requests whose URI is only a path

/// The client chooses the origin. If the response's origin isn't named, the response counts as a
/// response of another origin.
#[tokio::test]
async fn a_path_goes_to_a_named_origin_and_what_another_answers_does_not_count() {
    for (path, issued) in [("/moved", 1), ("/own", 2)] {
        let (source, servers) = (ScriptedSource::default(), Servers::new(|| status(401)));
        let layer = AuthLayer::new(source.clone()).retry(false);
        let layer = layer.only_to([API]).unwrap();
        // If a request has only a path, the client sends it to the API.
        let layer = layer.answered_by(|extensions| {
            let AnsweredAt(uri) = extensions.get()?;
            match uri.host() {
                Some(_) => Some(uri.clone()),
                None => Some(Uri::from_static(API)),
            }
        });
        let mut client = boxed(layer.layer(OwnFollower(servers)));
        let request = Request::get(path).body(Full::default()).unwrap();
        let response = call(&mut client, request).await.unwrap();
        assert_eq!(response.status(), 401);
        let is_strangers = matches!(response.extensions().get(), Some(NotReplayed::Elsewhere));
        assert_eq!(is_strangers, path == "/moved");
        run_until_idle().await;
        assert_eq!(source.tokens_issued(), issued, "{path}");
    }
}

// ---- how the response's origin is stated

/// Sends a request. The response is a 401 that states this URI as its origin. Returns whether a
/// fetch replaced the token.
async fn costs_a_token(layer: AuthLayer, uri: Option<&'static str>) -> bool {
    let answered = tower::service_fn(move |_: Sent| async move {
        let mut response = status(401);
        if let Some(uri) = uri {
            response
                .extensions_mut()
                .insert(AnsweredAt(Uri::from_static(uri)));
        }
        Ok::<_, Infallible>(response)
    });
    let layer = layer.retry(false).answered_by(|extensions| {
        let AnsweredAt(uri) = extensions.get()?;
        Some(uri.clone())
    });
    let first = layer.cache().token().await.unwrap();
    let request = Request::get(API).header(HOST, "api.example.com");
    let request = request.body(Full::default()).unwrap();
    layer.layer(answered).oneshot(request).await.unwrap();
    run_until_idle().await;
    layer.cache().token().await.unwrap().secret() != first.secret()
}

#[tokio::test]
async fn the_origin_counts_and_not_how_it_is_written() {
    for (uri, is_own) in [
        (None, true),
        (Some("/where/ever"), true),
        (Some("https://api.example.com/elsewhere"), true),
        (Some("HTTPS://API.example.com:443/"), true),
        (Some("https://user@api.example.com"), true),
        (Some("http://api.example.com"), false),
        (Some("https://api.example.com:8443"), false),
        (Some("https://api.example.com."), false),
        (Some("https://evil.example"), false),
    ] {
        let any = crate::support::layer(ScriptedSource::default());
        let only = AuthLayer::new(ScriptedSource::default())
            .only_to([API])
            .unwrap();
        for layer in [any, only] {
            assert_eq!(costs_a_token(layer, uri).await, is_own, "{uri:?}");
        }
    }
    // The token was sent to the first origin, so even the response of another named origin doesn't
    // count.
    let both = AuthLayer::new(ScriptedSource::default()).only_to([API, "https://files.example"]);
    assert!(!costs_a_token(both.unwrap(), Some("https://files.example")).await);
}

/// The user's closure takes precedence over the response type. If the closure returns `None`, the
/// response counts as a response of the request's own origin.
#[cfg(feature = "tower-http")]
#[tokio::test]
async fn the_users_way_comes_before_what_the_response_says() {
    use tower_http::follow_redirect::RequestUri;

    for (said, known, is_own) in [
        ("https://evil.example", Some(API), true),
        (API, Some("https://evil.example"), false),
        // Here, a layer below sends the request to another address than its URI names.
        ("http://10.0.0.5:8080", None, true),
    ] {
        let source = ScriptedSource::default();
        let answered = tower::service_fn(move |_: Sent| async move {
            let mut response = status(401);
            let extensions = response.extensions_mut();
            extensions.insert(RequestUri(Uri::from_static(said)));
            Ok::<_, Infallible>(response)
        });
        let layer = crate::support::layer(source.clone()).retry(false);
        let layer = layer.answered_by(move |_| known.map(Uri::from_static));
        let request = Request::get(API).body(Full::default()).unwrap();
        layer.layer(answered).oneshot(request).await.unwrap();
        run_until_idle().await;
        assert_eq!(source.tokens_issued() == 2, is_own, "{said} {known:?}");
    }
}

/// A response of a client that doesn't record who sent it.
struct Anonymous(Answer);

impl AuthResponse for Anonymous {
    fn status(&self) -> StatusCode {
        self.0.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    fn extensions(&self) -> &Extensions {
        self.0.extensions()
    }

    fn extensions_mut(&mut self) -> &mut Extensions {
        self.0.extensions_mut()
    }
}

#[tokio::test]
async fn a_response_type_without_an_origin_is_of_the_requests_own_origin() {
    let source = ScriptedSource::default();
    let layer = AuthLayer::new(source.clone()).only_to([API]).unwrap();
    let answered = tower::service_fn(|request: Sent| async move {
        let is_new = request.headers()[AUTHORIZATION] == "Bearer token-2";
        Ok::<_, Infallible>(Anonymous(status(if is_new { 200 } else { 401 })))
    });
    let request = Request::get(API).body(Full::default()).unwrap();
    let response = layer.layer(answered).oneshot(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), source.tokens_issued()),
        (200, 2)
    );
}

/// Such a response comes, for example, from a test or from a middleware with a cache.
#[cfg(feature = "reqwest")]
#[tokio::test]
async fn a_response_of_reqwest_without_a_url_is_of_the_requests_own_origin() {
    let source = ScriptedSource::default();
    let layer = AuthLayer::new(source.clone()).only_to([API]).unwrap();
    let answered = tower::service_fn(|request: reqwest::Request| async move {
        let is_new = request.headers()[AUTHORIZATION] == "Bearer token-2";
        let response = status(if is_new { 200 } else { 401 });
        Ok::<_, Infallible>(reqwest::Response::from(response.map(|_| "")))
    });
    let request = reqwest::Request::new(http::Method::GET, API.parse().unwrap());
    let response = layer.layer(answered).oneshot(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), source.tokens_issued()),
        (200, 2)
    );
}
