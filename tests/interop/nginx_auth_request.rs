//! nginx as an API. Before it reads a body, it asks another server about the request
//! (`auth_request`).

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::{Client, Method};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt};
use tower_auth::cache::{Clock, ManualClock};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Auth, AuthLayer, BoxError, NotReplayed, TokenCache};

use crate::free_port::free_port;
use crate::nginx::Nginx;
use crate::nginx_clients::of_reqwest;
use crate::support::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, SCOPE, Servers, Tokens, serve};
use crate::tls::Authority;

/// The server that nginx asks.
#[derive(Clone)]
struct Verifier {
    tokens: Tokens,
    challenges: bool,
    asked: Arc<AtomicUsize>,
    /// Gets a permit each time the verifier lets a request through.
    letting_through: Arc<Semaphore>,
}

async fn verify(State(verifier): State<Verifier>, headers: HeaderMap) -> Response {
    verifier.asked.fetch_add(1, SeqCst);
    let value = headers.get(AUTHORIZATION);
    let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = token.unwrap_or_default();
    let is_good = verifier.tokens.check(token, &[AUDIENCE.to_owned()]).is_ok();
    if is_good && headers["x-path"] == "/admin" {
        return StatusCode::FORBIDDEN.into_response();
    }
    if is_good {
        verifier.letting_through.add_permits(1);
        return StatusCode::NO_CONTENT.into_response();
    }
    let mut refusal = StatusCode::UNAUTHORIZED.into_response();
    if verifier.challenges {
        let challenge = r#"Bearer realm="nginx", error="invalid_token""#;
        let headers = refusal.headers_mut();
        headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
    }
    refusal
}

/// The body of each request that reached the upstream. `None` if the body broke off.
type Through = Arc<Mutex<Vec<Option<Bytes>>>>;

async fn keep(State(through): State<Through>, body: Body) -> StatusCode {
    let body = axum::body::to_bytes(body, usize::MAX).await.ok();
    through.lock().unwrap().push(body);
    StatusCode::OK
}

struct Api {
    servers: Servers,
    verifier: Verifier,
    through: Through,
    nginx: Nginx,
    url: String,
    http: Client,
    time: ManualClock,
}

/// The settings that differ between tests.
#[derive(Clone, Copy, Debug)]
struct Settings {
    challenges: bool,
    /// Whether nginx reads the whole body before it sends anything upstream.
    buffers: bool,
    http2: bool,
}

const USUAL: Settings = Settings {
    challenges: true,
    buffers: true,
    http2: false,
};

impl Api {
    async fn start(settings: Settings) -> Self {
        let servers = Servers::start().await.unwrap();
        let verifier = Verifier {
            tokens: servers.authorization.tokens().clone(),
            challenges: settings.challenges,
            asked: Arc::default(),
            letting_through: Arc::new(Semaphore::new(0)),
        };
        let verify = Router::new().fallback(any(verify).with_state(verifier.clone()));
        let verify = serve(verify).await.unwrap();
        let through = Through::default();
        let upstream = Router::new().fallback(any(keep).with_state(Arc::clone(&through)));
        let upstream = serve(upstream).await.unwrap();
        let authority = Authority::new().unwrap();
        let port = free_port();
        let buffers = if settings.buffers { "on" } else { "off" };
        let api = format!(
            "server {{
                listen 127.0.0.1:{port} ssl http2;
                ssl_certificate server.pem;
                ssl_certificate_key server.pem;
                client_max_body_size 64m;
                location / {{
                    auth_request /verify;
                    proxy_pass {upstream};
                    proxy_http_version 1.1;
                    proxy_request_buffering {buffers};
                }}
                location /small {{
                    auth_request /verify;
                    client_max_body_size 1k;
                    proxy_pass {upstream};
                }}
                location = /verify {{
                    internal;
                    proxy_pass {verify};
                    proxy_pass_request_body off;
                    proxy_set_header Content-Length \"\";
                    proxy_set_header X-Path $request_uri;
                }}
            }}"
        );
        let certificate = authority.issue("localhost").unwrap();
        let http = of_reqwest(&authority);
        let http = if settings.http2 {
            http
        } else {
            http.http1_only()
        };
        Self {
            servers,
            verifier,
            through,
            nginx: Nginx::start(&api, &[("server.pem", &certificate)]),
            url: format!("https://localhost:{port}"),
            http: http.build().unwrap(),
            time: Clock::manual(),
        }
    }

    fn client(&self) -> Auth<Client> {
        self.layer().layer(self.http.clone())
    }

    fn layer(&self) -> AuthLayer {
        let url = self.servers.authorization.token_url();
        let source = ClientCredentials::new(url, CLIENT_ID, CLIENT_SECRET).unwrap();
        let source = source.audience(AUDIENCE).scope(SCOPE);
        let cache = TokenCache::builder(source).clock(&self.time);
        AuthLayer::from(cache.build()).only_to([&self.url]).unwrap()
    }

    async fn post(
        &self,
        client: &Auth<Client>,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<reqwest::Response, BoxError> {
        let request = self
            .http
            .request(Method::POST, format!("{}{path}", self.url));
        let request = request.body(body).build().unwrap();
        client.clone().oneshot(request).await
    }

    fn fetches(&self) -> usize {
        self.servers.authorization.fetches()
    }

    /// Returns the bodies since the last call.
    fn through(&self) -> Vec<Option<Bytes>> {
        std::mem::take(&mut self.through.lock().unwrap())
    }
}

/// Returns chunks that all differ.
fn chunks(count: usize) -> Vec<Bytes> {
    let chunk = |n: usize| (0..16 * 1024).map(move |i| ((n * 7 + i) % 251) as u8);
    (0..count).map(|n| chunk(n).collect()).collect()
}

#[tokio::test]
async fn a_refusal_by_auth_request_costs_one_fetch_and_one_replay_with_a_challenge_or_without() {
    for challenges in [true, false] {
        for buffers in [true, false] {
            let api = Api::start(Settings {
                challenges,
                buffers,
                ..USUAL
            })
            .await;
            let client = api.client();
            let body: Bytes = chunks(2).concat().into();
            for _ in 0..2 {
                let response = api.post(&client, "/notes", body.clone()).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                api.servers.revoke_all_tokens();
            }
            assert_eq!(
                api.nginx.lines().await,
                ["POST /notes 200", "POST /notes 401", "POST /notes 200"]
            );
            assert_eq!(api.through(), [Some(body.clone()), Some(body)]);
            assert_eq!(api.verifier.asked.load(SeqCst), 3);
            assert_eq!(api.fetches(), 2);
        }
    }
}

#[tokio::test]
async fn a_403_or_a_413_of_nginx_is_the_callers_and_costs_nothing() {
    let api = Api::start(USUAL).await;
    let client = api.client();
    let large: Bytes = chunks(1).concat().into();
    for (path, body, status) in [
        ("/admin", Bytes::new(), StatusCode::FORBIDDEN),
        ("/small", large, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let response = api.post(&client, path, body).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(response.extensions().get::<NotReplayed>().is_none());
    }
    let lines = api.nginx.lines().await;
    assert_eq!(lines, ["POST /admin 403", "POST /small 413"]);
    assert_eq!(api.fetches(), 1);
    assert!(api.through().is_empty());
}

/// Returns each way in which nginx can read a body: each HTTP version, with buffering and without.
fn each_way() -> [Settings; 4] {
    [(false, true), (false, false), (true, true), (true, false)].map(|(http2, buffers)| Settings {
        http2,
        buffers,
        ..USUAL
    })
}

/// nginx responds before it has read any of the body. Then it closes the connection (HTTP/1) or
/// resets the stream (HTTP/2).
#[tokio::test]
async fn a_stream_that_nginx_refused_as_it_began_goes_on_where_it_was() {
    for settings in each_way() {
        let api = Api::start(settings).await;
        let layer = api.layer();
        layer.cache().token().await.unwrap();
        api.servers.revoke_all_tokens();
        let client = layer.layer(api.http.clone());
        let chunks = chunks(512);
        let whole = Bytes::from(chunks.concat());
        let letting_through = Arc::clone(&api.verifier.letting_through);
        let rest_when_let_through = stream::iter(chunks).enumerate().then(move |(n, chunk)| {
            let letting_through = Arc::clone(&letting_through);
            async move {
                if n > 0 {
                    drop(letting_through.acquire().await);
                }
                Ok::<_, BoxError>(chunk)
            }
        });
        let body = reqwest::Body::wrap_stream(rest_when_let_through);
        let response = api.post(&client, "/notes", body).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(api.through() == [Some(whole)], "it was cut: {settings:?}");
        let lines = api.nginx.lines().await;
        assert_eq!(lines, ["POST /notes 401", "POST /notes 200"]);
        assert_eq!(api.fetches(), 2);
    }
}

/// When the refusal arrives, an unknown part of the body was sent, possibly more than the layer
/// records.
#[tokio::test]
async fn a_long_stream_that_nginx_refused_unread_is_sent_again_whole_or_the_refusal_comes_back() {
    for settings in each_way() {
        let api = Api::start(settings).await;
        let client = api.client();
        let chunks = chunks(512);
        let whole = Bytes::from(chunks.concat());
        for _ in 0..4 {
            let response = api.post(&client, "/notes", "hello").await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(api.through(), [Some(Bytes::from("hello"))]);
            api.time.advance(Duration::from_secs(60));
            api.servers.revoke_all_tokens();
            let fetches = api.fetches();
            let stream = stream::iter(chunks.clone()).map(Ok::<_, BoxError>);
            let stream = reqwest::Body::wrap_stream(stream);
            let response = api.post(&client, "/notes", stream).await.unwrap();
            let through = api.through();
            match response.status() {
                StatusCode::OK => {
                    assert!(through == [Some(whole.clone())], "it was cut: {settings:?}");
                    assert_eq!(api.fetches(), fetches + 1);
                }
                StatusCode::UNAUTHORIZED => {
                    let why = response.extensions().get::<NotReplayed>();
                    assert!(matches!(why, Some(NotReplayed::Body)), "{why:?}");
                    assert!(through.is_empty(), "{settings:?}");
                    assert!(api.fetches() <= fetches + 1);
                }
                other => panic!("{other}: {settings:?}"),
            }
        }
    }
}
