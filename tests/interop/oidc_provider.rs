//! oidc-provider: every kind of client authentication, and JWTs for one API each.

use serde_json::{Value, json};
use tower_auth::oauth2::{Client, ClientCredentials, EndpointUrl};
use tower_auth::{NotReplayed, Reason, SecretSource, TokenCache, TokenSource};

use crate::api::{Api, Check, call, crowd};
use crate::key::Key;
use crate::servers::{AUDIENCE, OIDC, Registered, issued, register};

/// Registers a client that gets tokens for itself and authenticates with this method.
pub(crate) async fn service(method: &str, more: Value) -> Registered {
    let mut description = json!({
        "grant_types": ["client_credentials"],
        "response_types": [],
        "redirect_uris": [],
        "token_endpoint_auth_method": method,
    });
    let all = description.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    register(&OIDC, "/reg", &description).await
}

pub(crate) fn issuer() -> EndpointUrl {
    EndpointUrl::from_issuer(OIDC.url("")).unwrap()
}

/// Starts an API that accepts the server's JWTs with this audience.
pub(crate) async fn api(audience: &str) -> Api {
    Api::start(|_| Check::Jwt {
        issuer: OIDC.url(""),
        jwks: OIDC.url("/jwks"),
        audience: audience.to_owned(),
    })
    .await
}

#[tokio::test]
async fn the_endpoint_is_found_by_the_name_of_the_issuer() {
    let (api, client) = (
        api(AUDIENCE).await,
        service("client_secret_basic", json!({})).await,
    );
    let source = ClientCredentials::new(issuer(), &client.id, client.secret.clone()).unwrap();
    let cache = TokenCache::new(source.basic_auth().scope("read"));
    assert_eq!(crowd(&cache, &format!("{}/read", api.url), 50).await, [200]);
    assert_eq!(issued(&OIDC, &client.id).await, 1);

    // An issuer name with a slash at the end differs from the one without it.
    let other = EndpointUrl::from_issuer(OIDC.url("/")).unwrap();
    let source = ClientCredentials::new(other, &client.id, client.secret).unwrap();
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_config(), "{error}");
}

#[tokio::test]
async fn a_token_is_for_the_resource_that_it_was_asked_for() {
    const THINGS: &str = "https://things.example.com/ec";
    let client = service("client_secret_post", json!({})).await;
    let source = |resource| {
        let source = ClientCredentials::new(issuer(), &client.id, client.secret.clone()).unwrap();
        source.scope("read").resource(resource)
    };
    let (things, others) = (api(THINGS).await, api(AUDIENCE).await);
    let cache = TokenCache::new(source(THINGS));
    let url = format!("{}/read", things.url);
    assert_eq!(call(&cache, &url).await.status(), 200);
    assert_eq!(issued(&OIDC, &client.id).await, 1);

    let error = source("https://unknown.example.com")
        .fetch(Reason::First)
        .await;
    let error = error.unwrap_err();
    assert!(error.is_denied() && error.is_permanent(), "{error}");
    assert!(error.to_string().contains("invalid_target"), "{error}");

    // The token's audience is wrong, so a new token doesn't help. After a few fetches the layer
    // stops fetching.
    let cache = TokenCache::new(source(THINGS));
    let url = format!("{}/read", others.url);
    let mut limited = 0;
    for _ in 0..20 {
        let response = call(&cache, &url).await;
        assert_eq!(response.status(), 401);
        let reason = response.extensions().get::<NotReplayed>();
        limited += usize::from(matches!(reason, Some(NotReplayed::RefusalBudget)));
    }
    assert!(limited > 15, "{limited}");
    assert!(issued(&OIDC, &client.id).await <= 4);
}

#[tokio::test]
async fn auth0_is_asked_in_json_or_by_a_form_and_with_an_audience() {
    const THINGS: &str = "https://things.example.com/rsa";
    let api = api(THINGS).await;
    for as_json in [true, false] {
        let client = service("client_secret_post", json!({})).await;
        let url = OIDC.url("/oauth/token");
        let source = ClientCredentials::new(url, &client.id, client.secret).unwrap();
        let source = source.audience(THINGS).scope("read");
        let source = if as_json { source.json() } else { source };
        let cache = TokenCache::new(source);
        assert_eq!(crowd(&cache, &format!("{}/read", api.url), 10).await, [200]);
        assert_eq!(issued(&OIDC, &client.id).await, 1);
    }
}

#[tokio::test]
async fn a_client_proves_itself_with_its_key() {
    let (api, key) = (api(AUDIENCE).await, Key::new());
    let client = service("private_key_jwt", json!({"jwks": key.jwks()})).await;
    let source = |key: &Key| {
        let client = Client::public(issuer(), &client.id).unwrap();
        let client = client.private_key_jwt(key.signing()).unwrap();
        ClientCredentials::with_client(client).scope("read")
    };
    let cache = TokenCache::new(source(&key));
    let url = format!("{}/read", api.url);
    assert_eq!(crowd(&cache, &url, 10).await, [200]);
    // The server accepts each JWT only once, so the refresh must sign a new one.
    cache.refresh_now().await.unwrap();
    assert_eq!(issued(&OIDC, &client.id).await, 2);

    let error = source(&Key::new()).fetch(Reason::First).await.unwrap_err();
    assert!(error.is_invalid_client(), "{error}");
}

#[tokio::test]
async fn a_client_proves_itself_with_its_secret_without_sending_it() {
    let api = api(AUDIENCE).await;
    let client = service("client_secret_jwt", json!({})).await;
    let source = |secret: String| {
        let client = Client::new(issuer(), &client.id, secret).unwrap();
        ClientCredentials::with_client(client.secret_jwt().unwrap()).scope("read")
    };
    let cache = TokenCache::new(source(client.secret.clone()));
    let url = format!("{}/read", api.url);
    assert_eq!(crowd(&cache, &url, 10).await, [200]);
    assert_eq!(issued(&OIDC, &client.id).await, 1);

    let error = source(client.secret.replace(char::is_alphabetic, "x"));
    let error = error.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_invalid_client(), "{error}");
}

#[tokio::test]
async fn a_client_is_known_by_the_token_that_its_platform_puts_in_a_file() {
    let (api, key) = (api(AUDIENCE).await, Key::new());
    let client = service("private_key_jwt", json!({"jwks": key.jwks()})).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let rotate = || {
        let token = key.sign(&client.id, &client.id, &OIDC.url(""));
        std::fs::write(&file, token).unwrap();
    };
    rotate();
    let oauth = Client::public(issuer(), &client.id).unwrap();
    let oauth = oauth.client_assertion(SecretSource::file(&file));
    let cache = TokenCache::new(ClientCredentials::with_client(oauth).scope("read"));
    let url = format!("{}/read", api.url);
    assert_eq!(crowd(&cache, &url, 10).await, [200]);

    // The server accepts each JWT only once, so the platform writes a new one before the next
    // request.
    rotate();
    cache.refresh_now().await.unwrap();
    assert_eq!(crowd(&cache, &url, 10).await, [200]);
    assert_eq!(issued(&OIDC, &client.id).await, 2);
    let error = cache.refresh_now().await.unwrap_err();
    assert!(error.is_invalid_client(), "{error}");
}
