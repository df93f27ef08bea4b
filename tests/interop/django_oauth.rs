//! django-oauth-toolkit: opaque tokens, user logins, and an API that introspects each token.

use std::time::Duration;

use serde_json::json;
use tower_auth::cache::Clock;
use tower_auth::oauth2::{
    AuthorizationCode, Client, ClientCredentials, DeviceAuthorization, EndpointUrl,
    RedirectListener, RefreshToken, RefreshTokenFile,
};
use tower_auth::{Error, NotReplayed, Reason, SecretSource, TokenCache, TokenSource};

use crate::api::{Api, Check, call, crowd};
use crate::person::Person;
use crate::servers::{self, DJANGO, HTTP, Registered, issued, text, token};

async fn register(description: &serde_json::Value) -> Registered {
    servers::register(&DJANGO, "/interop/clients", description).await
}

/// Registers a client with a secret.
pub(crate) async fn service() -> Registered {
    let kind =
        json!({"client_type": "confidential", "authorization_grant_type": "client-credentials"});
    register(&kind).await
}

/// Registers a desktop app, which has no secret.
async fn app(listener: &RedirectListener) -> Registered {
    let kind = json!({
        "client_type": "public",
        "authorization_grant_type": "authorization-code",
        "redirect_uris": listener.redirect_uri(),
    });
    register(&kind).await
}

/// Registers a device without a browser.
async fn device() -> Registered {
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let kind = json!({"client_type": "public", "authorization_grant_type": grant});
    register(&kind).await
}

fn issuer() -> EndpointUrl {
    EndpointUrl::from_issuer(DJANGO.url("/o")).unwrap()
}

fn token_url() -> String {
    DJANGO.url("/o/token/")
}

pub(crate) async fn api() -> Api {
    let client = service().await;
    Api::start(|_| Check::Introspection {
        issuer: DJANGO.url("/o"),
        endpoint: DJANGO.url("/o/introspect/"),
        client,
    })
    .await
}

/// Ends all sessions of a client, as an administrator would. Returns how many sessions there were.
pub(crate) async fn revoke_all(client: &str) -> String {
    let path = format!("/interop/revoke-all/{client}");
    text(HTTP.post(DJANGO.url(&path))).await
}

async fn error_of(source: &impl TokenSource) -> Error {
    source.fetch(Reason::First).await.unwrap_err()
}

#[tokio::test]
async fn a_hundred_callers_cost_one_token() {
    let (api, client) = (api().await, service().await);
    let source = ClientCredentials::new(token_url(), &client.id, client.secret).unwrap();
    let cache = TokenCache::new(source.scope("read"));
    assert_eq!(
        crowd(&cache, &format!("{}/read", api.url), 100).await,
        [200]
    );
    assert_eq!(issued(&DJANGO, &client.id).await, 1);
}

#[tokio::test]
async fn basic_authentication_and_scopes_are_understood() {
    let (api, client) = (api().await, service().await);
    let source = ClientCredentials::new(issuer(), &client.id, client.secret.clone()).unwrap();
    let cache = TokenCache::new(source.basic_auth().scope("read write"));
    for scope in ["read", "write"] {
        let response = call(&cache, &format!("{}/{scope}", api.url)).await;
        assert_eq!(response.status(), 200);
    }
    assert_eq!(issued(&DJANGO, &client.id).await, 1);

    let source = ClientCredentials::new(issuer(), &client.id, client.secret).unwrap();
    let error = error_of(&source.basic_auth().scope("everything")).await;
    assert!(error.is_invalid_scope() && error.is_permanent(), "{error}");
}

#[tokio::test]
async fn a_wrong_secret_is_an_invalid_client_either_way_it_is_sent() {
    let client = service().await;
    let source = || ClientCredentials::new(token_url(), &client.id, "a-wrong-secret").unwrap();
    for source in [source(), source().basic_auth()] {
        let error = error_of(&source).await;
        assert!(error.is_invalid_client() && error.is_permanent(), "{error}");
        assert!(!format!("{error:?} {error}").contains("a-wrong-secret"));
    }
}

#[tokio::test]
async fn a_token_that_the_server_revokes_is_replaced_once_for_all_callers() {
    let (api, client) = (api().await, service().await);
    let source = ClientCredentials::new(token_url(), &client.id, client.secret).unwrap();
    let cache = TokenCache::new(source);
    let url = format!("{}/read", api.url);
    assert_eq!(call(&cache, &url).await.status(), 200);

    assert_eq!(revoke_all(&client.id).await, "1");
    assert_eq!(crowd(&cache, &url, 50).await, [200]);
    assert_eq!(issued(&DJANGO, &client.id).await, 2);
    assert!(api.statuses().contains(&401));
}

#[tokio::test]
async fn a_token_that_somebody_else_rotates_in_a_file_is_read_anew_once_it_is_refused() {
    let (api, client) = (api().await, service().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let rotate = async || {
        let token = token(&token_url(), &client, &[("scope", "read")]).await;
        std::fs::write(&file, token).unwrap();
    };
    rotate().await;
    let time = Clock::manual();
    let cache = TokenCache::builder(SecretSource::file(&file)).clock(&time);
    let cache = cache.build();
    let url = format!("{}/read", api.url);
    assert_eq!(crowd(&cache, &url, 10).await, [200]);

    revoke_all(&client.id).await;
    let response = call(&cache, &url).await;
    assert_eq!(response.status(), 401);
    let reason = response.extensions().get::<NotReplayed>();
    assert!(matches!(reason, Some(NotReplayed::SameToken)), "{reason:?}");

    rotate().await;
    time.advance(Duration::from_secs(60));
    assert_eq!(crowd(&cache, &url, 10).await, [200]);
    assert_eq!(issued(&DJANGO, &client.id).await, 2);
}

#[tokio::test]
async fn a_cache_that_is_closed_has_its_token_revoked() {
    let (api, client) = (api().await, service().await);
    let oauth = Client::new(issuer(), &client.id, client.secret).unwrap();
    let oauth = oauth.revoke_at(issuer()).unwrap();
    let cache = TokenCache::new(ClientCredentials::with_client(oauth));
    let token = cache.token().await.unwrap();
    assert!(api.claims(token.secret()).await.is_some());
    cache.close().await;
    assert!(api.claims(token.secret()).await.is_none());
    assert!(cache.token().await.unwrap_err().is_closed());
}

/// Logs in as Ada with her browser.
async fn log_in(store: &RefreshTokenFile) -> (Registered, Client, RefreshToken) {
    let listener = RedirectListener::bind().await.unwrap();
    let app = app(&listener).await;
    let client = Client::public(issuer(), &app.id).unwrap();
    let client = client.revoke_at(issuer()).unwrap();
    let login = AuthorizationCode::new(client.clone(), issuer())
        .unwrap()
        .scope("read")
        .require_issuer(DJANGO.url("/o"))
        .store(store.clone());
    let request = login.begin(listener.redirect_uri()).await.unwrap();
    let mut browser = Person::ada();
    let (response, _) = tokio::join!(listener.accept(&request), browser.visits(request.url()));
    let source = login.finish(request, response.unwrap()).await.unwrap();
    (app, client, source)
}

/// Returns the refresh token in the record of a login.
fn saved_refresh_token(store: &RefreshTokenFile) -> String {
    let record = std::fs::read_to_string(store.path()).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    record["refresh_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_person_who_logs_in_with_their_browser_stays_logged_in() {
    let (api, folder) = (api().await, tempfile::tempdir().unwrap());
    let store = RefreshTokenFile::new(folder.path().join("token"));
    let (app, client, source) = log_in(&store).await;
    let url = format!("{}/read", api.url);
    let cache = TokenCache::new(source);
    assert_eq!(call(&cache, &url).await.status(), 200);
    assert_eq!(issued(&DJANGO, &app.id).await, 1);

    // A second cache stands for a later run of the program. It starts with the saved access token.
    let cache = TokenCache::new(RefreshToken::stored(client, store));
    assert_eq!(call(&cache, &url).await.status(), 200);
    assert_eq!(issued(&DJANGO, &app.id).await, 1);
    cache.refresh_now().await.unwrap();
    assert_eq!(call(&cache, &url).await.status(), 200);
    assert_eq!(issued(&DJANGO, &app.id).await, 2);
    let [first, second, third] = api.credentials().try_into().unwrap();
    assert_eq!(first, second);
    assert_ne!(second, third);
}

#[tokio::test]
async fn a_refresh_token_is_rotated_and_an_old_one_requires_a_login() {
    let folder = tempfile::tempdir().unwrap();
    let store = RefreshTokenFile::new(folder.path().join("token"));
    let (_, client, _) = log_in(&store).await;
    let saved = || saved_refresh_token(&store);
    let source = RefreshToken::stored(client.clone(), store.clone());
    let mut tokens = vec![saved()];
    for _ in 0..3 {
        source.fetch(Reason::Forced).await.unwrap();
        assert!(!tokens.contains(&saved()));
        tokens.push(saved());
    }

    let thief = RefreshToken::new(client, tokens[1].as_str());
    let error = error_of(&thief).await;
    assert!(error.is_login_required(), "{error}");
    // The server can't tell the thief from the owner, so the owner has to log in again too.
    let error = source.fetch(Reason::Forced).await.unwrap_err();
    assert!(error.is_login_required(), "{error}");
}

#[tokio::test]
async fn a_login_that_ends_with_the_cache_is_over_at_the_server_too() {
    let (api, folder) = (api().await, tempfile::tempdir().unwrap());
    let store = RefreshTokenFile::new(folder.path().join("token"));
    let (_, client, source) = log_in(&store).await;
    let refresh = saved_refresh_token(&store);
    let cache = TokenCache::new(source.log_out_on_close().unwrap());
    let token = cache.token().await.unwrap();
    cache.close().await;
    assert!(api.claims(token.secret()).await.is_none());
    let error = error_of(&RefreshToken::new(client, refresh)).await;
    assert!(error.is_login_required(), "{error}");
}

fn device_login(client: &Registered) -> DeviceAuthorization {
    let client = Client::public(issuer(), &client.id).unwrap();
    // The server's metadata doesn't contain the device authorization endpoint.
    let url = DJANGO.url("/o/device-authorization/");
    DeviceAuthorization::new(client, url).unwrap().scope("read")
}

#[tokio::test]
async fn a_person_logs_in_on_another_device() {
    let (api, device) = (api().await, device().await);
    let login = device_login(&device);
    let prompt = login.begin().await.unwrap();
    let mut person = Person::ada().sees(prompt.user_code());
    let page = prompt.verification_uri().to_owned();
    // The program polls from the start, and the first polls fail.
    let (source, _) = tokio::join!(login.finish(prompt), person.visits(&page));
    let cache = TokenCache::new(source.unwrap());
    let url = format!("{}/read", api.url);
    assert_eq!(call(&cache, &url).await.status(), 200);
    assert_eq!(issued(&DJANGO, &device.id).await, 1);

    // Later refreshes don't need the user.
    cache.refresh_now().await.unwrap();
    assert_eq!(call(&cache, &url).await.status(), 200);
    assert_eq!(issued(&DJANGO, &device.id).await, 2);
}

#[tokio::test]
async fn a_person_who_says_no_on_the_other_device_denies_access() {
    let device = device().await;
    let login = device_login(&device);
    let prompt = login.begin().await.unwrap();
    let mut person = Person::ada().sees(prompt.user_code()).says_no();
    person.visits(prompt.verification_uri()).await;
    let error = login.finish(prompt).await.unwrap_err();
    assert!(error.is_access_denied(), "{error}");
    assert_eq!(issued(&DJANGO, &device.id).await, 0);
}
