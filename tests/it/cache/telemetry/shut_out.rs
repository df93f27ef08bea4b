//! The warning that something isn't used because of what a server said. It is logged once for each
//! thing, even if no fetch and no request fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{Request, Response, Uri};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::oauth2::{Client, ClientCredentials, EndpointUrl, ProtectedResource, Protection};
use tower_auth::oauth2::{StepUp, StepUpRequest};
use tower_auth::{AuthLayer, Error, Reason, Token, TokenSource};
use tower_auth_test::ScriptedSource;
use tracing::Level;

use crate::support::log::{Log, listen};
use crate::support::scenarios::orders;
use crate::support::token_server::{ID, SECRET};
use crate::support::web::{Page, Web};
use crate::support::{layer_from, request};

const MESSAGE: &str = "an origin, an issuer or a scope that a server named is not used";
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Returns the reasons of the warnings since the last call.
#[track_caller]
fn told(log: &Log) -> Vec<String> {
    let mut lines = log.all();
    lines.retain(|line| line.message == MESSAGE);
    let reasons = lines.iter().map(|line| {
        assert_eq!((line.level, line.fields.len()), (Level::WARN, 2), "{line}");
        assert_eq!(line.value("tower_auth.cache"), "orders");
        line.value("error.message").to_owned()
    });
    reasons.collect()
}

/// Checks that there is one warning, and that it contains these words.
#[track_caller]
fn is_told_once<const N: usize>(log: &Log, words: [&str; N]) {
    let told = told(log);
    assert_eq!(told.len(), 1, "{told:#?}");
    for word in words {
        assert!(told[0].contains(word), "{word}: {told:#?}");
    }
}

/// Sends a request to an API that responds like this.
async fn send(layer: &AuthLayer, status: u16, challenge: &str) {
    let challenge = challenge.to_owned();
    let api = service_fn(move |_: Request<Full<bytes::Bytes>>| {
        let response = Response::builder().status(status);
        std::future::ready(response.header(WWW_AUTHENTICATE, &challenge).body(()))
    });
    let response = layer.layer(api).oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), status);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_refuses_after_a_redirect_is_told_once() {
    let (log, _listening) = listen();
    let answering = Arc::new(Mutex::new("https://a.example/x"));
    let origin = Arc::clone(&answering);
    let layer = layer_from(orders(ScriptedSource::default()));
    let layer = layer.answered_by(move |_| Some(Uri::from_static(*origin.lock().unwrap())));
    for _ in 0..3 {
        send(&layer, 401, "Bearer").await;
    }
    is_told_once(&log, ["`https://a.example`", "only_to"]);
    // A response of another origin that isn't a refusal is usual, for example a download.
    *answering.lock().unwrap() = "https://b.example/x";
    send(&layer, 200, "Bearer").await;
    assert!(told(&log).is_empty());
    send(&layer, 401, "Bearer").await;
    is_told_once(&log, ["`https://b.example`"]);
    *answering.lock().unwrap() = "https://api.example.com/x";
    send(&layer, 200, "Bearer").await;
    assert!(told(&log).is_empty());
    // The API puts the token into the address of its redirect.
    *answering.lock().unwrap() = "https://token-1.example/x";
    send(&layer, 401, "Bearer").await;
    is_told_once(&log, ["`https://[redacted].example`"]);
}

fn step_up(
    build: impl Fn(&StepUpRequest) -> Result<Token, Error> + Send + Sync + 'static,
) -> StepUp {
    let build = Arc::new(build);
    let source = StepUp::new(move |wanted| {
        let (wanted, build) = (wanted.clone(), Arc::clone(&build));
        Ok(move |_: Reason| {
            let token = build(&wanted);
            async move { token }
        })
    });
    source.scope("read").allow("write")
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_the_step_up_does_not_allow_is_told_once_and_not_without_end() {
    let (log, _listening) = listen();
    let layer = layer_from(orders(step_up(|_| Token::bearer("token"))));
    let challenge = r#"Bearer error="insufficient_scope", scope="admin""#;
    for _ in 0..3 {
        send(&layer, 403, challenge).await;
    }
    is_told_once(&log, ["`admin`", "StepUp::allow"]);
    let weak = r#"Bearer error="insufficient_user_authentication", acr_values="gold""#;
    for _ in 0..3 {
        send(&layer, 401, weak).await;
    }
    is_told_once(&log, ["`gold`", "StepUp::allow_acr"]);
    for number in 0..200 {
        let challenge = format!(r#"Bearer error="insufficient_scope", scope="{number}""#);
        send(&layer, 403, &challenge).await;
    }
    assert_eq!(told(&log).len(), 62);
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_the_authorization_server_refuses_for_good_is_told_once() {
    let (log, _listening) = listen();
    let source = step_up(|wanted| match wanted.scope() {
        "read" => Token::bearer("token"),
        _ => Err(Error::permanent("not for this client")),
    });
    let layer = layer_from(orders(source));
    let challenge = r#"Bearer error="insufficient_scope", scope="write""#;
    for _ in 0..3 {
        send(&layer, 403, challenge).await;
        tokio::time::advance(HOUR).await;
    }
    is_told_once(&log, ["`read write`"]);
}

const API: &str = "https://mcp.example.com/mcp";
const METADATA: &str = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
const ISSUER: &str = "https://id.example.com";

fn resource(issuer: &str) -> Page {
    Page::json(
        200,
        json!({"resource": API, "authorization_servers": [issuer]}),
    )
}

fn put_issuer(web: &Web, metadata: &Value) {
    let at = format!("{ISSUER}/.well-known/oauth-authorization-server");
    web.put(&at, Page::json(200, metadata));
    let token = json!({"access_token": "issued", "token_type": "Bearer", "expires_in": 60});
    web.put(&format!("{ISSUER}/token"), Page::json(200, token));
}

fn source(web: &Web) -> impl TokenSource + use<> {
    let transport = web.transport();
    let build = move |protection: Protection| {
        let client = Client::new(protection.endpoint(), ID, SECRET)?;
        Ok(ClientCredentials::with_client(
            client.transport(transport.clone()),
        ))
    };
    let source = ProtectedResource::new(API, [ISSUER], build).unwrap();
    source.transport(web.transport())
}

#[tokio::test(start_paused = true)]
async fn new_metadata_that_is_not_accepted_is_told_once_while_the_old_stays_in_use() {
    let (log, _listening) = listen();
    let web = Web::default();
    web.put(METADATA, resource(ISSUER));
    let metadata = json!({"issuer": ISSUER, "token_endpoint": format!("{ISSUER}/token")});
    put_issuer(&web, &metadata);
    let cache = orders(source(&web));
    cache.token().await.unwrap();
    assert!(told(&log).is_empty());

    web.put(METADATA, resource("https://evil.example.com"));
    for _ in 0..3 {
        tokio::time::advance(2 * HOUR).await;
        cache.refresh_now().await.unwrap();
    }
    is_told_once(
        &log,
        ["https://evil.example.com", "the old metadata stays in use"],
    );

    // The issuer's own metadata is another document.
    web.put(METADATA, resource(ISSUER));
    let url = EndpointUrl::from_issuer(ISSUER).unwrap();
    let other = ClientCredentials::new(url, ID, SECRET).unwrap();
    let cache = orders(other.transport(web.transport()));
    cache.token().await.unwrap();
    put_issuer(&web, &json!({"issuer": "https://evil.example.com"}));
    for _ in 0..3 {
        tokio::time::advance(2 * HOUR).await;
        cache.refresh_now().await.unwrap();
    }
    is_told_once(&log, [ISSUER, "https://evil.example.com"]);
    // A server that is down has named nothing.
    web.put(METADATA, Page::new(503));
    put_issuer(&web, &metadata);
    tokio::time::advance(2 * HOUR).await;
    cache.refresh_now().await.unwrap();
    assert!(told(&log).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_location_of_metadata_on_another_origin_is_told_if_it_is_passed_over() {
    let (log, _listening) = listen();
    let web = Web::default();
    let challenge = format!(
        r#"Bearer resource_metadata="https://evil.example.com/x", resource_metadata="{METADATA}""#
    );
    web.put(
        API,
        Page::new(401).header(WWW_AUTHENTICATE.as_str(), challenge),
    );
    web.put(METADATA, resource(ISSUER));
    let metadata = json!({"issuer": ISSUER, "token_endpoint": format!("{ISSUER}/token")});
    put_issuer(&web, &metadata);
    orders(source(&web)).token().await.unwrap();
    is_told_once(&log, ["`evil.example.com`", "another origin"]);
}
