//! Which of the crate's sources name origins. Each test checks that the layer sends the token to
//! the source's origins and nowhere else.

use std::sync::Arc;

use http::Request;
use serde_json::json;
use tower::{Layer, ServiceExt};
use tower_auth::oauth2::{
    Client, ClientCredentials, DeviceAuthorization, JwtBearer, ProtectedResource, Protection,
    RefreshToken, StepUp, TokenExchange,
};
use tower_auth::{AuthLayer, Error, SecretSource, TokenCache, TokenSource};
use tower_auth_test::Api;

use super::API;
use crate::support::credentials;
use crate::support::form_server::FormServer;
use crate::support::login_server::{ISSUED, LoginServer};
use crate::support::token_server::{ID, SECRET};
use crate::support::web::{Page, Web};

/// Returns whether the request carries the credential. Also returns `false` if the layer rejects
/// the origin.
async fn is_sent(layer: &AuthLayer, uri: &str) -> bool {
    let api = Api::default();
    let request = Request::get(uri).body(String::new()).unwrap();
    match layer
        .clone()
        .retry(false)
        .layer(api.clone())
        .oneshot(request)
        .await
    {
        Ok(_) => {
            assert_ne!(credentials(&api), ["-"]);
            true
        }
        Err(error) => {
            let error = error.downcast_ref::<Error>().unwrap();
            assert!(error.is_origin(), "{error}");
            false
        }
    }
}

/// Asserts that the source names `https://api.example.com` and nothing else.
async fn names_the_api(source: impl TokenSource) {
    let layer = AuthLayer::new(source);
    assert!(is_sent(&layer, "https://api.example.com/v1").await);
    for uri in [
        "https://id.example.com/",
        "http://api.example.com/",
        "http://localhost/",
    ] {
        assert!(!is_sent(&layer, uri).await, "{uri}");
    }
}

async fn names_nothing(source: impl TokenSource) {
    assert!(source.origins().is_empty());
    assert!(!is_sent(&AuthLayer::new(source), API).await);
}

fn client_credentials() -> ClientCredentials {
    ClientCredentials::with_client(FormServer::issuing().client())
}

#[tokio::test]
async fn client_credentials_name_their_resource() {
    names_the_api(client_credentials().resource("https://api.example.com/v1?q#f")).await;
    names_nothing(client_credentials()).await;
}

#[tokio::test]
async fn a_jwt_bearer_names_its_resource() {
    let source = || JwtBearer::new(FormServer::issuing().client(), "the-jwt");
    names_the_api(source().resource(API)).await;
    names_nothing(source()).await;
}

#[tokio::test]
async fn a_token_exchange_names_its_resource_and_not_its_subjects() {
    let server = || {
        FormServer::new(|_, _| {
            let token = r#"{"access_token":"exchanged","token_type":"Bearer","issued_token_type":
                "urn:ietf:params:oauth:token-type:access_token","expires_in":3600}"#;
            (200, token.to_owned())
        })
    };
    let source = || TokenExchange::new(server().client(), SecretSource::from("the-subject"));
    names_the_api(source().resource(API)).await;
    names_nothing(source()).await;
    let subject = client_credentials().resource("https://id.example.com");
    names_nothing(TokenExchange::new(
        server().client(),
        TokenCache::new(subject),
    ))
    .await;
}

#[tokio::test]
async fn each_resource_of_several_is_named() {
    let source = client_credentials()
        .resource(API)
        .resource("https://files.example.com:8443/x")
        .resource("http://localhost:3000/api");
    let layer = AuthLayer::new(source);
    for uri in [
        API,
        "https://files.example.com:8443",
        "http://localhost:3000",
    ] {
        assert!(is_sent(&layer, uri).await, "{uri}");
    }
    assert!(!is_sent(&layer, "https://files.example.com").await);
}

/// A cleartext URL names no origin, because a token needs encryption. A URN names no server.
#[tokio::test]
async fn a_resource_in_the_clear_or_without_a_server_names_nothing() {
    for resource in [
        "http://api.example.com/v1",
        "http://localhost.evil.com",
        "urn:example:api",
        "api.example.com",
        "api",
        "/v1",
        "",
        "https://api.example.com:99999/",
        "https://user@api.example.com/",
    ] {
        names_nothing(client_credentials().resource(resource)).await;
    }
}

#[tokio::test]
async fn an_audience_names_nothing() {
    names_nothing(client_credentials().audience(API)).await;
    let subject = SecretSource::from("the-subject");
    let exchange = TokenExchange::new(FormServer::issuing().client(), subject);
    names_nothing(exchange.audience(API)).await;
}

#[tokio::test]
async fn a_refresh_token_that_was_given_names_its_resource() {
    let source = || RefreshToken::new(FormServer::issuing().public(), "refresh");
    names_the_api(source().resource(API)).await;
    names_nothing(source()).await;
}

#[tokio::test(start_paused = true)]
async fn a_login_on_another_device_names_its_resource() {
    const PROMPT: &str = r#"{"device_code":"d","user_code":"u",
        "verification_uri":"https://id.example.com/activate","expires_in":100}"#;
    for resource in [Some(API), None] {
        let server = LoginServer::responding([(200, PROMPT), ISSUED]);
        let device = "https://id.example.com/device";
        let mut login = DeviceAuthorization::new(server.client(), device).unwrap();
        if let Some(resource) = resource {
            login = login.resource(resource);
        }
        let prompt = login.begin().await.unwrap();
        let source = login.finish(prompt).await.unwrap();
        match resource {
            Some(_) => names_the_api(source).await,
            None => names_nothing(source).await,
        }
    }
}

#[cfg(feature = "authorization-code")]
#[tokio::test]
async fn a_login_with_a_browser_names_its_resource() {
    use tower_auth::oauth2::AuthorizationCode;

    const CALLBACK: &str = "http://127.0.0.1:4711/callback";
    let server = LoginServer::responding([ISSUED]);
    let authorize = "https://id.example.com/authorize";
    let login = AuthorizationCode::new(server.client(), authorize).unwrap();
    let login = login.resource(API);
    let request = login.begin(CALLBACK).await.unwrap();
    let (_, query) = request.url().split_once('?').unwrap();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, state) = pairs.find(|(name, _)| name == "state").unwrap();
    let response = request
        .read(&format!("{CALLBACK}?state={state}&code=c"))
        .unwrap();
    names_the_api(login.finish(request, response).await.unwrap()).await;
}

/// The origin is known before any metadata is fetched.
#[tokio::test]
async fn a_protected_resource_names_itself() {
    const METADATA: &str = "https://api.example.com/.well-known/oauth-protected-resource/mcp";
    const ISSUER: &str = "https://id.example.com";
    let web = Web::default();
    let challenge = format!(r#"Bearer resource_metadata="{METADATA}""#);
    let refusal = Page::new(401).header("www-authenticate", &challenge);
    web.put("https://api.example.com/mcp", refusal);
    let resource = json!({
        "resource": "https://api.example.com/mcp", "authorization_servers": [ISSUER],
    });
    web.put(METADATA, Page::json(200, &resource));
    let server = json!({"issuer": ISSUER, "token_endpoint": format!("{ISSUER}/token")});
    let well_known = format!("{ISSUER}/.well-known/oauth-authorization-server");
    web.put(&well_known, Page::json(200, &server));
    let token = json!({"access_token": "issued", "token_type": "Bearer", "expires_in": 60});
    web.put(&format!("{ISSUER}/token"), Page::json(200, &token));
    let transport = web.transport();
    // The inner source, `ClientCredentials`, names no origin.
    let build = move |protection: Protection| {
        let client = Client::new(protection.endpoint(), ID, SECRET)?;
        Ok(ClientCredentials::with_client(
            client.transport(transport.clone()),
        ))
    };
    let source = ProtectedResource::new("https://api.example.com/mcp", [ISSUER], build).unwrap();
    names_the_api(source.transport(web.transport())).await;
}

#[tokio::test]
async fn a_step_up_names_what_its_source_names() {
    names_the_api(StepUp::new(|_| Ok(client_credentials().resource(API)))).await;
    names_nothing(StepUp::new(|_| Ok(client_credentials()))).await;
}

#[tokio::test]
async fn a_cache_an_arc_and_a_layer_over_a_cache_name_what_the_source_names() {
    let source = || client_credentials().resource(API);
    names_the_api(TokenCache::new(source())).await;
    names_the_api(Arc::new(source())).await;
    let layer = AuthLayer::from(TokenCache::new(source()));
    assert!(is_sent(&layer, API).await);
    assert!(!is_sent(&layer, "https://evil.example").await);
}

#[cfg(feature = "cookies")]
#[tokio::test]
async fn a_session_names_the_origin_of_its_login_and_those_it_is_told() {
    use crate::support::session_site::Site;

    let site = || Site::setting(["sid=1; Domain=example.com; Path=/"]);
    names_the_session(&site(), AuthLayer::new(site().session()), false).await;
    let session = site().session();
    let session = session.origin("https://files.example.com").unwrap();
    names_the_session(&site(), AuthLayer::new(session), true).await;
}

#[cfg(feature = "cookies")]
async fn names_the_session(
    site: &crate::support::session_site::Site,
    layer: AuthLayer,
    has_files: bool,
) {
    use crate::support::session_site::get;

    for (uri, is_named) in [
        ("https://api.example.com/v1", true),
        ("https://files.example.com/v1", has_files),
        ("https://www.example.com/v1", false),
    ] {
        let result = layer.layer(site.clone()).oneshot(get(uri)).await;
        match result {
            Ok(_) => assert_eq!(
                (is_named, site.cookies().pop()),
                (true, Some("sid=1".into()))
            ),
            Err(error) => {
                assert!(error.downcast_ref::<Error>().unwrap().is_origin());
                assert!(!is_named, "{uri}: {error}");
            }
        }
    }
}
