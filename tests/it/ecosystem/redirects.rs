//! `tower_http::follow_redirect`: no credential follows a redirect to another origin, in either order.
//!
//! `clients` has reqwest, which follows them itself.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_auth::{ApiKey, Auth, AuthLayer, BoxError, Error};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_http::follow_redirect::policy::{FilterCredentials, Limited, PolicyExt, SameOrigin};
use tower_service::Service;

use crate::support::{Counting, call};

type Sent = Request<Full<Bytes>>;

/// Servers of any name. Some addresses are redirected; what was asked, and with which credential, is
/// kept.
#[derive(Clone, Default)]
struct Net {
    moved: Arc<Mutex<HashMap<String, String>>>,
    refuses: Arc<Mutex<Vec<&'static str>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Net {
    /// `from` leads to what `location` says.
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

    /// Refuses this credential.
    fn refusing(self, credential: &'static str) -> Self {
        self.refuses.lock().unwrap().push(credential);
        self
    }

    /// `<address>: <credential>` of each request since the last look; `-` for none.
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

fn bearer() -> AuthLayer {
    AuthLayer::new(Counting::default())
}

fn keyed() -> AuthLayer {
    AuthLayer::new(ApiKey::new("k3y").header("x-api-key").unwrap())
}

/// Follows redirects outside the layer: each hop is a request of its own to it.
fn outside(
    layer: &AuthLayer,
    net: &Net,
) -> impl Service<Sent, Response = Response<Full<Bytes>>, Error = BoxError> + Clone + use<> {
    ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(layer.clone())
        .service(net.clone())
}

#[track_caller]
fn is_of_its_origin(error: &BoxError) {
    let ours = error.downcast_ref::<Error>();
    assert!(ours.is_some_and(Error::is_origin), "{error}");
}

/// The hop doesn't happen: the request isn't sent without a credential either.
#[tokio::test]
async fn followed_outside_a_redirect_to_another_origin_is_an_error_before_a_byte_leaves() {
    for layer in [
        bearer(),
        keyed(),
        bearer().retry(false),
        keyed().retry(false),
    ] {
        for location in [
            "https://evil.example/x",
            "HTTPS://Evil.Example/x",
            "//evil.example/x",
            "https://api.example:8443/x",
            "https://api.example.evil.example",
            "http://localhost:3000/",
            "wss://evil.example/",
            // As it is read by those who read it as browsers do.
            "/\\evil.example",
            "https:\\\\evil.example/x",
            "https://ev%69l.example/x",
            "https://api.example@evil.example/x",
            "https://2130706433/x",
            "https://[::1]/x",
        ] {
            let net = Net::moving(API, location);
            let response = outside(&layer.clone().replace_existing(true), &net)
                .oneshot(get(API))
                .await;
            is_of_its_origin(&response.expect_err(location));
            assert_eq!(net.seen().len(), 1, "{location}");
        }
    }
}

#[tokio::test]
async fn followed_outside_a_redirect_to_the_same_origin_carries_the_credential() {
    for location in [
        "/there",
        "there",
        "https://api.example/there",
        "https://API.example:443/there",
        "//api.example/there",
    ] {
        let net = Net::moving(API, location);
        let client = outside(&bearer(), &net);
        // The second shows that the first has closed nothing.
        for _ in 0..2 {
            client.clone().oneshot(get(API)).await.expect(location);
            let there = "https://api.example/there: Bearer token-1";
            assert_eq!(
                net.seen(),
                [&format!("{API}: Bearer token-1"), there],
                "{location}"
            );
        }
    }
}

/// With replay on and off, over a copy of the service for each request and over the same.
/// A service that is used again knows where it goes as a rule.
#[tokio::test]
async fn the_origin_of_a_redirect_is_known_however_often_the_service_was_used_and_for_what() {
    let net = Net::moving("https://other.example/x", "https://other.example/y")
        .and("https://user@API.example:443/x", "https://api.example/y")
        .and("https://other.example/z", "https://api.example/y");
    let mut client = bearer().layer(net);
    for address in [
        API,
        API,
        API,
        "https://other.example/x",
        "https://user@API.example:443/x",
    ] {
        call(&mut client, get(address)).await.unwrap();
        call(&mut client, get("https://other.example/y"))
            .await
            .unwrap();
        call(&mut client, get("https://api.example/y"))
            .await
            .unwrap();
    }
    call(&mut client, get("https://other.example/z"))
        .await
        .unwrap();
    let error = call(&mut client, get(API)).await.unwrap_err();
    is_of_its_origin(&error);
    // However it is written.
    let error = call(&mut client, get("https://user@API.example:443/x")).await;
    is_of_its_origin(&error.unwrap_err());
    call(&mut client, get("https://other.example/y"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_redirect_that_the_replay_gets_is_no_way_out_either() {
    let net = Net::moving(API, "https://evil.example").refusing("Bearer token-1");
    is_of_its_origin(
        &outside(&bearer(), &net)
            .oneshot(get(API))
            .await
            .unwrap_err(),
    );
    let tries = ["token-1", "token-2"].map(|token| format!("{API}: Bearer {token}"));
    assert_eq!(net.seen(), tries);
}

/// Whoever follows it drops the caller's credential. The layer's own isn't put in its place.
#[tokio::test]
async fn a_credential_of_the_callers_is_not_replaced_by_the_layers_on_the_way() {
    for has_token in [false, true] {
        let net = Net::moving(API, "https://evil.example");
        let layer = bearer();
        if has_token {
            layer.cache().token().await.unwrap();
        }
        let mut own = get(API);
        own.headers_mut()
            .insert(AUTHORIZATION, "Basic b3du".parse().unwrap());
        is_of_its_origin(&outside(&layer, &net).oneshot(own).await.unwrap_err());
        assert_eq!(net.seen(), [format!("{API}: Basic b3du")]);
    }
}

/// A credential that is made for each request is no exception.
#[cfg(feature = "dpop")]
#[tokio::test]
async fn a_token_that_is_bound_to_a_key_goes_nowhere_else_either() {
    use tower_auth::oauth2::{Client, ClientCredentials, DpopKey};

    use crate::support::web::{Page, Web};

    const TOKEN: &str = "https://id.example/token";
    let web = Web::default();
    let token =
        serde_json::json!({"access_token": "bound", "token_type": "DPoP", "expires_in": 60});
    web.put(TOKEN, Page::json(&token));
    let client = Client::new(TOKEN, "id", "secret")
        .unwrap()
        .transport(web.transport());
    let client = client.dpop(DpopKey::generate().unwrap());
    let layer = AuthLayer::new(ClientCredentials::with_client(client));
    let net = Net::moving(API, "https://evil.example");
    is_of_its_origin(&outside(&layer, &net).oneshot(get(API)).await.unwrap_err());
    assert_eq!(net.seen(), [format!("{API}: DPoP bound")]);
}

#[tokio::test]
async fn behind_a_buffer_it_is_the_same() {
    let net = Net::moving(API, "https://evil.example");
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .buffer(4)
        .layer(bearer())
        .service(net.clone());
    is_of_its_origin(&client.oneshot(get(API)).await.unwrap_err());
    assert_eq!(net.seen().len(), 1);
}

/// Reads `Location` and asks there, as people do who follow redirects themselves.
async fn by_hand(client: &mut Auth<Net>) -> Result<Response<Full<Bytes>>, BoxError> {
    let response = call(client, get(API)).await?;
    let location = response.headers()[LOCATION].to_str().unwrap().to_owned();
    call(client, get(&location)).await
}

#[tokio::test]
async fn an_origin_that_a_redirect_led_to_gets_no_credential_from_then_on_and_the_others_do() {
    let net = Net::moving(API, "https://evil.example/x");
    let mut client = bearer().layer(net.clone());
    for elsewhere in ["https://evil.example", "https://other.example"] {
        call(&mut client, get(elsewhere)).await.unwrap();
    }
    let error = by_hand(&mut client).await.unwrap_err();
    is_of_its_origin(&error);
    assert!(
        error.to_string().contains("redirect") && error.to_string().contains("only_to"),
        "{error}"
    );
    net.seen();
    for elsewhere in ["https://evil.example", "https://EVIL.example:443/y"] {
        is_of_its_origin(&call(&mut client, get(elsewhere)).await.unwrap_err());
    }
    for good in [
        API,
        "https://other.example",
        "https://evil.example:8443",
        "/path",
    ] {
        call(&mut client, get(good)).await.expect(good);
    }
    assert_eq!(net.seen().len(), 4);
}

/// Nobody can tell what it leads to, so nobody but the one who said it is sure not to be there.
#[tokio::test]
async fn after_a_redirect_that_leads_nobody_knows_where_only_its_own_origin_gets_a_credential() {
    let net = Net::moving(API, "/\\evil.example");
    let mut client = bearer().layer(net.clone());
    call(&mut client, get(API)).await.unwrap();
    is_of_its_origin(
        &call(&mut client, get("https://other.example"))
            .await
            .unwrap_err(),
    );
    call(&mut client, get(API)).await.unwrap();
}

/// However many there were: none of them is forgotten for a newer one.
#[tokio::test]
async fn the_first_of_thousands_of_redirects_is_not_forgotten() {
    let mut net = Net::default();
    for n in 0..3000 {
        net = net.and(
            &format!("https://api.example/{n}"),
            &format!("https://host-{n}.example"),
        );
    }
    let mut client = bearer().layer(net.clone());
    for n in 0..3000 {
        call(&mut client, get(&format!("https://api.example/{n}")))
            .await
            .unwrap();
    }
    for n in [0, 1500, 2999] {
        let there = get(&format!("https://host-{n}.example"));
        is_of_its_origin(&call(&mut client, there).await.unwrap_err());
    }
    call(&mut client, get(API)).await.unwrap();
}

/// To name an origin is to say that the credential may go there.
#[tokio::test]
async fn with_both_origins_named_the_credential_goes_along_and_with_one_it_does_not() {
    let net = Net::moving(API, "https://files.example/x");
    let only = bearer().only_to(["https://api.example"]).unwrap();
    is_of_its_origin(&outside(&only, &net).oneshot(get(API)).await.unwrap_err());
    assert_eq!(net.seen(), [format!("{API}: Bearer token-1")]);
    let both = ["https://api.example", "https://files.example"];
    let both = bearer().only_to(both).unwrap();
    outside(&both, &net).oneshot(get(API)).await.unwrap();
    let there = "https://files.example/x: Bearer token-1";
    assert_eq!(net.seen(), [&format!("{API}: Bearer token-1"), there]);
}

/// tower-http drops `Authorization` as the origin changes, and so the hop is made without.
#[tokio::test]
async fn followed_inside_a_redirect_to_another_origin_goes_without_the_credential() {
    let net = Net::moving(API, "https://files.example/x")
        .and("https://files.example/x", "https://api.example/back")
        .refusing("Bearer token-1");
    let client = ServiceBuilder::new()
        .layer(bearer())
        .layer(FollowRedirectLayer::new())
        .service(net.clone());
    let response = client.oneshot(get(API)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let expected = [
        "https://api.example/start: Bearer token-1",
        "https://api.example/start: Bearer token-2",
        "https://files.example/x: -",
        "https://api.example/back: -",
    ];
    assert_eq!(net.seen(), expected);
}

/// A header of its own is known to no client as a credential. So either the layer goes inside, or
/// what follows redirects drops all headers, or follows none to another origin.
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
