//! Redirects that are followed outside or inside the layer. The credential goes only to named
//! origins.
//!
//! `layer::origins_property` covers all orders and spellings.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::{ApiKey, AuthLayer, BoxError, Error};
use tower_auth_test::ScriptedSource;
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_http::follow_redirect::policy::{FilterCredentials, Limited, PolicyExt, SameOrigin};
use tower_service::Service;

type Sent = Request<Full<Bytes>>;

/// Servers with any name. Some addresses redirect. Each request is recorded with its credential.
#[derive(Clone, Default)]
struct Net {
    moved: Arc<Mutex<HashMap<String, String>>>,
    refuses: Arc<Mutex<Vec<&'static str>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Net {
    /// Redirects `from` to `location`.
    fn moving(from: &str, location: &str) -> Self {
        Self::default().and(from, location)
    }

    fn and(self, from: &str, location: &str) -> Self {
        self.moved
            .lock()
            .unwrap()
            .insert(from.into(), location.into());
        self
    }

    /// Makes the servers refuse this credential.
    fn refusing(self, credential: &'static str) -> Self {
        self.refuses.lock().unwrap().push(credential);
        self
    }

    /// Returns `<address>: <credential>` of each request since the last call. `-` means no
    /// credential.
    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Service<Sent> for Net {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        let address = request.uri().to_string();
        let headers = request.headers();
        let credential = headers
            .get(AUTHORIZATION)
            .or_else(|| headers.get("x-api-key"));
        let credential = credential.map_or("-", |value| value.to_str().unwrap());
        let seen = format!("{address}: {credential}");
        self.seen.lock().unwrap().push(seen);
        let mut response = Response::new(Full::default());
        if self.refuses.lock().unwrap().contains(&credential) {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        } else if let Some(location) = self.moved.lock().unwrap().get(&address) {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            let location = http::HeaderValue::from_bytes(location.as_bytes()).unwrap();
            response.headers_mut().insert(LOCATION, location);
        }
        ready(Ok(response))
    }
}

const API: &str = "https://api.example/start";

fn get(address: &str) -> Sent {
    Request::get(address).body(Full::default()).unwrap()
}

/// Builds a layer that sends its credential only to the API.
fn bearer() -> AuthLayer {
    let layer = AuthLayer::new(ScriptedSource::default());
    layer.only_to(["https://api.example"]).unwrap()
}

fn keyed() -> AuthLayer {
    let key = ApiKey::new("k3y").header("x-api-key").unwrap();
    AuthLayer::new(key)
        .only_to(["https://api.example"])
        .unwrap()
}

type Responded = Result<Response<Full<Bytes>>, BoxError>;

/// Follows redirects outside the layer, so each hop is a separate request to the layer.
async fn outside(layer: &AuthLayer, net: &Net, request: Sent) -> Responded {
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(layer.clone())
        .service(net.clone());
    client.oneshot(request).await
}

/// Follows redirects inside, so the layer sees one request and the last response.
async fn inside(layer: &AuthLayer, net: &Net, request: Sent) -> Responded {
    let client = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(FollowRedirectLayer::new())
        .service(net.clone());
    client.oneshot(request).await
}

#[track_caller]
fn is_of_its_origin(response: Responded) {
    let error = response.unwrap_err();
    let ours = error.downcast_ref::<Error>();
    assert!(ours.is_some_and(Error::is_origin), "{error}");
}

// ---- outside

/// The redirected request isn't sent, not even without a credential.
#[tokio::test]
async fn followed_outside_a_redirect_to_an_origin_that_is_not_named_is_an_error() {
    let net = Net::moving(API, "https://evil.example/x");
    for (layer, credential) in [
        (bearer(), "Bearer token-1"),
        (keyed(), "k3y"),
        (
            bearer().retry(false).replace_existing(true),
            "Bearer token-1",
        ),
    ] {
        is_of_its_origin(outside(&layer, &net, get(API)).await);
        assert_eq!(net.seen(), [format!("{API}: {credential}")]);
    }
}

#[tokio::test]
async fn followed_outside_a_redirect_to_a_named_origin_carries_the_credential() {
    let net = Net::moving(API, "//files.example/x").and("https://files.example/x", API);
    let net = net.and("https://api.example/near", "far");
    let names = ["https://api.example", "https://files.example"];
    let layer = bearer().only_to(names).unwrap();
    outside(&layer, &net, get("https://api.example/near"))
        .await
        .unwrap();
    let near = ["near", "far"].map(|path| format!("https://api.example/{path}: Bearer token-1"));
    assert_eq!(net.seen(), near);
    // The two origins redirect to each other until the follower reaches its limit.
    outside(&layer, &net, get(API)).await.unwrap();
    let seen = net.seen();
    assert!(seen.len() > 3 && seen.iter().all(|seen| seen.ends_with(": Bearer token-1")));
}

/// The API redirects to presigned storage, as some APIs do.
#[tokio::test]
async fn followed_outside_with_pass_elsewhere_a_hop_goes_without_the_credential_and_back_with_it() {
    let net = Net::moving(API, "https://storage.example/x?signature=s").and(
        "https://storage.example/x?signature=s",
        "https://api.example/back",
    );
    for (layer, credential) in [(bearer(), "Bearer token-1"), (keyed(), "k3y")] {
        outside(&layer.pass_elsewhere(), &net, get(API))
            .await
            .unwrap();
        let expected = [
            format!("{API}: {credential}"),
            String::from("https://storage.example/x?signature=s: -"),
            format!("https://api.example/back: {credential}"),
        ];
        assert_eq!(net.seen(), expected);
    }
}

/// With `any_https`, the API's redirect decides which origin gets the credential.
#[tokio::test]
async fn followed_outside_with_any_https_the_credential_goes_to_any_but_cleartext() {
    let layer = bearer().any_https();
    let net = Net::moving(API, "https://other.example/x")
        .and("https://other.example/x", "http://other.example/x");
    is_of_its_origin(outside(&layer, &net, get(API)).await);
    let seen = [API, "https://other.example/x"].map(|address| format!("{address}: Bearer token-1"));
    assert_eq!(net.seen(), seen);
    outside(&layer.pass_elsewhere(), &net, get(API))
        .await
        .unwrap();
    assert_eq!(net.seen()[1..], [&seen[1], "http://other.example/x: -"]);
}

#[tokio::test]
async fn a_redirect_that_the_replay_gets_is_no_way_out_either() {
    let net = Net::moving(API, "https://evil.example").refusing("Bearer token-1");
    is_of_its_origin(outside(&bearer(), &net, get(API)).await);
    let tries = ["token-1", "token-2"].map(|token| format!("{API}: Bearer {token}"));
    assert_eq!(net.seen(), tries);
}

/// The follower drops the caller's credential. The layer doesn't add its own credential instead.
#[tokio::test]
async fn a_credential_of_the_callers_is_not_replaced_by_the_layers_on_the_way() {
    let net = Net::moving(API, "https://evil.example/");
    for has_token in [false, true] {
        let layer = bearer();
        if has_token {
            layer.cache().token().await.unwrap();
        }
        let own = || {
            let mut own = get(API);
            let credential = "Basic b3du".parse().unwrap();
            own.headers_mut().insert(AUTHORIZATION, credential);
            own
        };
        is_of_its_origin(outside(&layer, &net, own()).await);
        assert_eq!(net.seen(), [format!("{API}: Basic b3du")]);
        outside(&layer.pass_elsewhere(), &net, own()).await.unwrap();
        assert_eq!(net.seen()[1], "https://evil.example/: -");
    }
}

/// A token that is bound to a key is a per-request credential.
#[cfg(feature = "dpop")]
#[tokio::test]
async fn a_token_that_is_bound_to_a_key_goes_nowhere_else_either() {
    use tower_auth::oauth2::{Client, ClientCredentials, DpopKey};

    use crate::support::web::{Page, Web};

    const TOKEN: &str = "https://id.example/token";
    let web = Web::default();
    let token =
        serde_json::json!({"access_token": "bound", "token_type": "DPoP", "expires_in": 60});
    web.put(TOKEN, Page::json(200, &token));
    let client = Client::new(TOKEN, "id", "secret")
        .unwrap()
        .transport(web.transport());
    let client = client.dpop(DpopKey::generate().unwrap());
    let source = ClientCredentials::with_client(client).resource("https://api.example");
    let layer = AuthLayer::new(source);
    let net = Net::moving(API, "https://evil.example/");
    is_of_its_origin(outside(&layer, &net, get(API)).await);
    assert_eq!(net.seen(), [format!("{API}: DPoP bound")]);
    outside(&layer.pass_elsewhere(), &net, get(API))
        .await
        .unwrap();
    assert_eq!(net.seen()[1], "https://evil.example/: -");
}

#[tokio::test]
async fn behind_a_buffer_it_is_the_same() {
    let net = Net::moving(API, "https://evil.example");
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .buffer(4)
        .layer(bearer())
        .service(net.clone());
    is_of_its_origin(client.oneshot(get(API)).await);
    assert_eq!(net.seen().len(), 1);
}

// ---- inside

/// tower-http drops `Authorization` when the origin changes. So the hop carries no credential, even
/// to a named origin.
#[tokio::test]
async fn followed_inside_a_redirect_to_another_origin_goes_without_the_credential() {
    let net = Net::moving(API, "https://files.example/x")
        .and("https://files.example/x", "https://api.example/back")
        .refusing("Bearer token-1");
    let both = bearer().only_to(["https://api.example", "https://files.example"]);
    for layer in [
        bearer(),
        bearer().pass_elsewhere(),
        bearer().any_https(),
        both.unwrap(),
    ] {
        let response = inside(&layer, &net, get(API)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let expected = [
            "https://api.example/start: Bearer token-1",
            "https://api.example/start: Bearer token-2",
            "https://files.example/x: -",
            "https://api.example/back: -",
        ];
        assert_eq!(net.seen(), expected);
    }
}

#[tokio::test]
async fn followed_inside_the_first_origin_has_to_be_named_all_the_same() {
    let net = Net::moving("https://evil.example/", API);
    is_of_its_origin(inside(&bearer(), &net, get("https://evil.example/")).await);
    assert!(net.seen().is_empty());
    let passing = bearer().pass_elsewhere();
    inside(&passing, &net, get("https://evil.example/"))
        .await
        .unwrap();
    assert_eq!(
        net.seen(),
        ["https://evil.example/: -", &format!("{API}: -")]
    );
}

/// The last hop carries no credential, so a refusal of this hop is not about the token.
#[cfg(feature = "tower-http")]
#[tokio::test]
async fn followed_inside_a_refusal_of_another_origin_costs_no_token() {
    use tower_auth::NotReplayed;

    let net = Net::moving(API, "https://files.example/x").refusing("-");
    let response = inside(&bearer(), &net, get(API)).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let why = response.extensions().get::<NotReplayed>();
    assert!(matches!(why, Some(NotReplayed::Elsewhere)), "{why:?}");
    let seen = [
        &format!("{API}: Bearer token-1"),
        "https://files.example/x: -",
    ];
    assert_eq!(net.seen(), seen);
}

/// No client recognizes a custom header as a credential. The redirect layer must do one of these:
/// - go outside,
/// - drop all headers,
/// - follow no redirects to other origins.
#[tokio::test]
async fn followed_inside_a_key_in_a_header_of_its_own_takes_a_policy_that_drops_all_headers() {
    let net = Net::moving(API, "https://files.example/x");
    let all_headers = Limited::default().and::<_, (), ()>(FilterCredentials::new().remove_all());
    let client = ServiceBuilder::new()
        .layer(keyed())
        .layer(FollowRedirectLayer::with_policy(all_headers))
        .service(net.clone());
    client.oneshot(get(API)).await.unwrap();
    assert_eq!(
        net.seen(),
        [&format!("{API}: k3y"), "https://files.example/x: -"]
    );

    let client = ServiceBuilder::new()
        .layer(keyed())
        .layer(FollowRedirectLayer::with_policy(SameOrigin::new()))
        .service(net.clone());
    let response = client.oneshot(get(API)).await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(net.seen(), [format!("{API}: k3y")]);
}

// ---- reqwest

/// Starts a server on loopback that records the credentials. The server redirects to `moved`.
/// Without `moved`, the server accepts every request.
#[cfg(feature = "reqwest")]
async fn serve(moved: Option<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let kept = Arc::clone(&seen);
    let router = axum::Router::new().fallback(move |headers: http::HeaderMap| {
        let credential = headers.get(AUTHORIZATION);
        let credential = credential.map_or("-", |value| value.to_str().unwrap());
        kept.lock().unwrap().push(credential.to_owned());
        let mut response = Response::new(axum::body::Body::empty());
        if let Some(moved) = &moved {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            let location = moved.parse().unwrap();
            response.headers_mut().insert(LOCATION, location);
        }
        ready(response)
    });
    tokio::spawn(axum::serve(listener, router).into_future());
    (address, seen)
}

/// reqwest follows redirects inside the layer, and drops `Authorization` when the origin changes.
#[cfg(feature = "reqwest")]
#[tokio::test]
async fn followed_by_reqwest_a_redirect_to_another_origin_goes_without_the_credential() {
    use tower::Layer;

    let (files, at_files) = serve(None).await;
    let (api, at_api) = serve(Some(files.clone())).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = |url: &str| reqwest::Request::new(http::Method::GET, url.parse().unwrap());
    let only = bearer().only_to([&api]).unwrap();
    for layer in [
        only.clone(),
        only.clone().pass_elsewhere(),
        bearer().any_https(),
        bearer().only_to([&api, &files]).unwrap(),
    ] {
        let response = layer.layer(client.clone()).oneshot(get(&api)).await;
        assert_eq!(response.unwrap().status(), StatusCode::OK);
        assert_eq!(
            std::mem::take(&mut *at_api.lock().unwrap()),
            ["Bearer token-1"]
        );
        assert_eq!(std::mem::take(&mut *at_files.lock().unwrap()), ["-"]);
    }
    let error = only.layer(client.clone()).oneshot(get(&files)).await;
    let error = error.unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_origin());
    let passing = only.pass_elsewhere().layer(client);
    passing.oneshot(get(&files)).await.unwrap();
    assert_eq!(*at_files.lock().unwrap(), ["-"]);
}
