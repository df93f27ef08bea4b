//! The API decides which token it gets: it names the issuer, the scope and the user.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tower::{Layer, ServiceExt};
use tower_auth::challenge::StepUpChallenge;
use tower_auth::oauth2::{Client, ClientCredentials, ProtectedResource, Protection, StepUp};
use tower_auth::tenants::Tenants;
use tower_auth::{AuthLayer, Error, NotReplayed, Reason, Token, TokenCache};

use crate::api::{Api, Check, call, crowd, try_to_call};
use crate::oidc_provider::{api, issuer, service};
use crate::servers::{AUDIENCE, HTTP, OIDC, Registered, issued, token};

/// Starts an API that names its authorization server. The API accepts only tokens for itself.
async fn resource() -> (Api, String) {
    let api = Api::start(|url| Check::Jwt {
        issuer: OIDC.url(""),
        jwks: OIDC.url("/jwks"),
        audience: format!("{url}/read"),
    })
    .await;
    let url = format!("{}/read", api.url);
    (api, url)
}

fn build(
    client: &Registered,
) -> impl Fn(Protection) -> Result<ClientCredentials, Error> + Send + Sync + 'static {
    let (id, secret) = (client.id.clone(), client.secret.clone());
    move |protection| {
        let source = ClientCredentials::new(protection.endpoint(), &id, secret.clone())?;
        let source = source.resource(protection.resource());
        Ok(source.scope(protection.scope()))
    }
}

#[tokio::test]
async fn the_server_is_the_one_that_the_api_names() {
    let (api, url) = resource().await;
    let client = service("client_secret_post", json!({})).await;
    let source = ProtectedResource::new(&url, [OIDC.url("")], build(&client)).unwrap();
    let cache = TokenCache::new(source);
    assert_eq!(crowd(&cache, &url, 20).await, [200]);
    assert_eq!(issued(&OIDC, &client.id).await, 1);
    // Only one request is refused: it has no token, and leads the source to the metadata.
    let credentials = api.credentials();
    let bare = credentials
        .iter()
        .filter(|credential| credential.is_empty());
    assert_eq!(bare.count(), 1);
    assert_eq!(credentials.len(), 21);
}

#[tokio::test]
async fn a_server_that_is_not_allowed_is_asked_for_nothing() {
    let (api, url) = resource().await;
    let client = service("client_secret_post", json!({})).await;
    let allowed = ["https://id.example.com"];
    let source = ProtectedResource::new(&url, allowed, build(&client)).unwrap();
    let cache = TokenCache::new(source);
    try_to_call(&cache, &url).await.unwrap_err();
    let error = cache.token().await.unwrap_err();
    assert!(error.is_config(), "{error:?}");
    assert_eq!(issued(&OIDC, &client.id).await, 0);
    assert!(api.credentials().iter().all(String::is_empty));
}

#[tokio::test]
async fn a_token_gets_the_scope_that_the_api_lacks_if_it_may() {
    let api = api(AUDIENCE).await;
    let client = service("client_secret_post", json!({})).await;
    let oauth = Client::new(issuer(), &client.id, client.secret).unwrap();
    let source = StepUp::new(move |wanted| {
        Ok(ClientCredentials::with_client(oauth.clone()).scope(wanted.scope()))
    });
    let cache = TokenCache::new(source.scope("read").allow("write"));
    for scope in ["read", "write", "read", "write"] {
        let response = call(&cache, &format!("{}/{scope}", api.url)).await;
        assert_eq!(response.status(), 200);
    }
    assert_eq!(api.statuses(), [200, 403, 200, 200, 200]);
    assert_eq!(issued(&OIDC, &client.id).await, 2);

    let response = call(&cache, &format!("{}/everything", api.url)).await;
    assert_eq!(response.status(), 403);
    let lacks = response.extensions().get::<StepUpChallenge>().unwrap();
    assert!(lacks.is_insufficient_scope());
    assert_eq!(lacks.scope(), Some("everything"));
    assert_eq!(issued(&OIDC, &client.id).await, 2);
}

#[tokio::test]
async fn without_a_step_up_the_refusal_is_the_callers_to_see() {
    let api = api(AUDIENCE).await;
    let client = service("client_secret_post", json!({})).await;
    let source = ClientCredentials::new(issuer(), &client.id, client.secret).unwrap();
    let cache = TokenCache::new(source.scope("read"));
    let response = call(&cache, &format!("{}/write", api.url)).await;
    assert_eq!(response.status(), 403);
    let lacks = response.extensions().get::<StepUpChallenge>().unwrap();
    assert_eq!(lacks.scope(), Some("write"));
    let reason = response.extensions().get::<NotReplayed>();
    assert!(matches!(reason, Some(NotReplayed::InsufficientScope)));
    assert_eq!(issued(&OIDC, &client.id).await, 1);
}

#[tokio::test]
async fn each_audience_has_a_token_of_its_own() {
    let (one, two) = (resource().await, resource().await);
    let client = service("client_secret_post", json!({})).await;
    let oauth = Client::new(issuer(), &client.id, client.secret).unwrap();
    let tenants = Tenants::new(move |audience: &String| {
        let source = ClientCredentials::with_client(oauth.clone());
        Ok(AuthLayer::new(source.resource(audience).scope("read")))
    });
    let layer = tenants.by(|request: &reqwest::Request| Some(request.url().to_string()));
    let service = layer.layer(HTTP.clone());
    for _ in 0..3 {
        for (_, url) in [&one, &two] {
            let request = HTTP.get(url).build().unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 200);
        }
    }
    assert_eq!(issued(&OIDC, &client.id).await, 2);
    assert_eq!(one.0.statuses(), [200; 3]);
    assert_eq!(two.0.statuses(), [200; 3]);
}

#[tokio::test]
async fn a_closure_asks_the_server_in_a_way_of_its_own() {
    let (api, url) = resource().await;
    let client = Arc::new(service("client_secret_post", json!({})).await);
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let (asks, seen, audience) = (client.clone(), reasons.clone(), url.clone());
    let source = move |reason| {
        seen.lock().unwrap().push(reason);
        let (client, audience) = (asks.clone(), audience.clone());
        async move {
            let more = [("scope", "read"), ("resource", &audience)];
            Token::bearer(token(&OIDC.url("/token"), &client, &more).await)
        }
    };
    let cache = TokenCache::new(source);
    assert_eq!(crowd(&cache, &url, 20).await, [200]);
    assert_eq!(issued(&OIDC, &client.id).await, 1);
    assert_eq!(*reasons.lock().unwrap(), [Reason::First]);
    assert_eq!(api.statuses().len(), 20);
}
