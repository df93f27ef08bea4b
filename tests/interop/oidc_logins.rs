//! Logins at oidc-provider, whose tokens are bound to a key or to a certificate. Its userinfo
//! endpoint is the API. This endpoint checks the key or the certificate.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::{Layer, ServiceExt};
use tower_auth::challenge::StepUpChallenge;
use tower_auth::oauth2::{
    AuthorizationCode, Client, ClientCredentials, DpopKey, RedirectListener, RefreshToken,
    ReqwestTransport,
};
use tower_auth::{AuthLayer, Error, NotReplayed, Reason, TokenCache, TokenSource};

use crate::api::{call, crowd};
use crate::oidc_provider::{api, issuer, service};
use crate::person::Person;
use crate::servers::{
    AUDIENCE, AUTHORITY, HTTP, OIDC, Registered, issued, origin_of, register, text,
};

const CALLBACK: &str = "http://127.0.0.1/callback";

/// Registers a desktop app, which listens for the redirect on any free port (RFC 8252 §7.3).
pub(crate) async fn app(more: Value) -> Registered {
    let mut description = json!({
        "application_type": "native",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "none",
    });
    let all = description.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    register(&OIDC, "/reg", &description).await
}

pub(crate) async fn log_in(
    client: Client,
    settle: impl FnOnce(AuthorizationCode) -> AuthorizationCode,
) -> Result<RefreshToken, Error> {
    let settle =
        |login: AuthorizationCode| settle(login.scope("openid offline_access").prompt("consent"));
    log_in_with(&mut Person::ada(), client, settle).await
}

async fn log_in_with(
    browser: &mut Person,
    client: Client,
    settle: impl FnOnce(AuthorizationCode) -> AuthorizationCode,
) -> Result<RefreshToken, Error> {
    let listener = RedirectListener::bind().await?;
    let login = settle(AuthorizationCode::new(client, issuer())?);
    let request = login.begin(listener.redirect_uri()).await?;
    let (response, _) = tokio::join!(listener.accept(&request), browser.visits(request.url()));
    login.finish(request, response?).await
}

#[tokio::test]
async fn a_person_logs_in_and_the_program_goes_on_without_them() {
    let app = app(json!({})).await;
    let client = Client::public(issuer(), &app.id).unwrap();
    let source = log_in(client, |login| login).await.unwrap();
    let cache = TokenCache::new(source);
    for round in 1..=3 {
        assert_eq!(crowd(&cache, &OIDC.url("/me"), 10).await, [200]);
        assert_eq!(issued(&OIDC, &app.id).await, round);
        cache.refresh_now().await.unwrap();
    }
}

#[tokio::test]
async fn the_answer_of_a_server_that_was_not_asked_is_refused() {
    let app = app(json!({})).await;
    let client = Client::public(issuer(), &app.id).unwrap();
    let settle = |login: AuthorizationCode| login.issuer("https://other.example.com");
    let error = log_in(client, settle).await.unwrap_err();
    assert!(error.is_reply(), "{error:?}");
    assert_eq!(issued(&OIDC, &app.id).await, 0);
}

#[tokio::test]
async fn an_api_that_wants_a_fresher_login_is_satisfied_by_one_and_by_no_new_token() {
    let (api, app) = (api(AUDIENCE).await, app(json!({})).await);
    let client = Client::public(issuer(), &app.id).unwrap();
    let plain = |login: AuthorizationCode| login.scope("openid read").resource(AUDIENCE);
    let mut browser = Person::ada();
    let source = log_in_with(&mut browser, client.clone(), plain).await;
    let cache = TokenCache::new(source.unwrap());
    let token = cache.token().await.unwrap();
    let since = api.claims(token.secret()).await.unwrap().auth_time.unwrap();
    let url = format!("{}/since-{since}", api.url);
    let response = call(&cache, &url).await;
    assert_eq!(response.status(), 401);
    let wanted = response.extensions().get::<StepUpChallenge>().unwrap();
    assert!(wanted.is_insufficient_user_authentication());
    let max_age = wanted.max_age().unwrap();
    assert_eq!(max_age, Duration::ZERO);
    let reason = response.extensions().get::<NotReplayed>();
    let fresher_login = NotReplayed::InsufficientUserAuthentication;
    assert_eq!(reason.unwrap().to_string(), fresher_login.to_string());
    assert_eq!(issued(&OIDC, &app.id).await, 1);

    // The browser's session yields another token without a new login, so the login is equally old.
    let source = log_in_with(&mut browser, client.clone(), plain).await;
    let cache = TokenCache::new(source.unwrap());
    assert_eq!(call(&cache, &url).await.status(), 401);
    assert_eq!(issued(&OIDC, &app.id).await, 2);

    // The server counts whole seconds. A login within the same second as the first isn't newer.
    let max_age = max_age.as_secs().to_string();
    let start = Instant::now();
    loop {
        let settle =
            |login: AuthorizationCode| plain(login).param("max_age", max_age.clone()).unwrap();
        let source = log_in_with(&mut browser, client.clone(), settle).await;
        let cache = TokenCache::new(source.unwrap());
        if call(&cache, &url).await.status() == 200 {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "never fresh enough"
        );
    }
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_key_is_of_use_with_its_proofs_alone() {
    let app = app(json!({"dpop_bound_access_tokens": true})).await;
    let client = Client::public(issuer(), &app.id).unwrap();
    // The token endpoint and the API both require a nonce. A client gets a nonce only with a
    // refusal.
    let client = client.dpop(DpopKey::generate().unwrap());
    let cache = TokenCache::new(log_in(client, |login| login).await.unwrap());
    assert_eq!(crowd(&cache, &OIDC.url("/me"), 30).await, [200]);
    assert_eq!(issued(&OIDC, &app.id).await, 1);
    cache.refresh_now().await.unwrap();
    assert_eq!(call(&cache, &OIDC.url("/me")).await.status(), 200);
    assert_eq!(issued(&OIDC, &app.id).await, 2);

    let stolen = cache.token().await.unwrap();
    let thief = HTTP.get(OIDC.url("/me"));
    let refused = thief.bearer_auth(stolen.secret()).send().await.unwrap();
    assert_eq!(refused.status(), 401);

    let without = Client::public(issuer(), &app.id).unwrap();
    let error = log_in(without, |login| login).await.unwrap_err();
    assert!(error.is_denied(), "{error:?}");
}

#[tokio::test]
async fn a_service_has_its_tokens_bound_to_its_key() {
    let client = service(
        "client_secret_basic",
        json!({"dpop_bound_access_tokens": true}),
    )
    .await;
    let key = DpopKey::generate().unwrap();
    let thumbprint = key.thumbprint().to_owned();
    let oauth = Client::new(issuer(), &client.id, client.secret).unwrap();
    let source = ClientCredentials::with_client(oauth.basic_auth().dpop(key));
    let token = source.fetch(Reason::First).await.unwrap();
    let claims = api(AUDIENCE).await.claims(token.secret()).await.unwrap();
    assert_eq!(claims.cnf.unwrap(), json!({"jkt": thumbprint}));
    assert_eq!(issued(&OIDC, &client.id).await, 1);
}

/// Builds a client with a certificate for this name. Also returns the thumbprint that its tokens
/// are bound to.
fn http(name: &str) -> (reqwest::Client, String) {
    let own = AUTHORITY.issue(name).unwrap();
    let certificate = CertificateDer::from_pem_slice(own.as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(AUTHORITY.root().as_bytes()).unwrap()])
        .identity(Identity::from_pem(own.as_bytes()).unwrap())
        .redirect(Policy::none())
        .timeout(Duration::from_secs(20));
    let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate));
    (client.build().unwrap(), thumbprint)
}

/// Returns the registration of a client that the server authenticates by certificate (RFC 8705
/// §2.1.2).
fn known_by(name: &str) -> Value {
    json!({
        "token_endpoint_auth_method": "tls_client_auth",
        "tls_client_auth_san_dns": name,
        "tls_client_certificate_bound_access_tokens": true,
    })
}

#[tokio::test]
async fn a_service_is_known_by_its_certificate() {
    const NAME: &str = "reports.clients.example.com";
    let client = service("tls_client_auth", known_by(NAME)).await;
    let source = |http: reqwest::Client| {
        let transport = ReqwestTransport::new(http);
        let client = Client::public(issuer().mtls(), &client.id).unwrap();
        ClientCredentials::with_client(client.transport(transport))
    };
    let (own, thumbprint) = http(NAME);
    let token = source(own).fetch(Reason::First).await.unwrap();
    let claims = api(AUDIENCE).await.claims(token.secret()).await.unwrap();
    assert_eq!(claims.cnf.unwrap(), json!({"x5t#S256": thumbprint}));

    let (other, _) = http("others.clients.example.com");
    let error = source(other).fetch(Reason::First).await.unwrap_err();
    assert!(error.is_invalid_client(), "{error}");
    assert_eq!(issued(&OIDC, &client.id).await, 1);
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_certificate_is_of_use_with_it_alone() {
    const NAME: &str = "app.clients.example.com";
    let app = app(known_by(NAME)).await;
    let (own, _) = http(NAME);
    let transport = ReqwestTransport::new(own.clone());
    let client = Client::public(issuer().mtls(), &app.id)
        .unwrap()
        .transport(transport);
    let cache = TokenCache::new(log_in(client, |login| login).await.unwrap());
    let metadata = text(HTTP.get(OIDC.url("/.well-known/openid-configuration"))).await;
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let token_url = metadata["mtls_endpoint_aliases"]["token_endpoint"]
        .as_str()
        .unwrap();
    let userinfo = token_url.replace("/token", "/me");

    let (thief, _) = http("others.clients.example.com");
    for (http, status) in [(own, 200), (thief, 401)] {
        let request = http.get(&userinfo).build().unwrap();
        // Replays are off, because a new token wouldn't help the thief.
        let layer = AuthLayer::from(cache.clone()).only_to([origin_of(&userinfo)]);
        let layer = layer.unwrap().retry(false);
        let response = layer.layer(http).oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
    }
    // The thief's refusal may start a fetch for later callers.
    assert!(issued(&OIDC, &app.id).await <= 2);
}
