//! User logins at a server that is known by its issuer name. Two questions: where is the browser
//! sent, and which server sent it back?
#![cfg(feature = "authorization-code")]

use serde_json::{Value, json};
use tower_auth::Error;
use tower_auth::oauth2::{AuthorizationCode, Client, DeviceAuthorization, EndpointUrl};

use crate::support::token_server::ID;
use crate::support::web::{Page, Web};

const ISSUER: &str = "https://id.example.com";
const CALLBACK: &str = "http://127.0.0.1:4711/callback";

/// Serves the metadata with these additions.
fn web(more: &Value) -> Web {
    let mut metadata = json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://login.example.com/authorize",
        "device_authorization_endpoint": "https://login.example.com/device",
        "token_endpoint": "https://id.example.com/token",
    });
    let more = more.as_object().unwrap().clone();
    metadata.as_object_mut().unwrap().extend(more);
    let web = Web::default();
    let place = format!("{ISSUER}/.well-known/oauth-authorization-server");
    web.put(&place, Page::json(200, &metadata));
    web
}

fn client(web: &Web) -> (Client, EndpointUrl) {
    let issuer = EndpointUrl::from_issuer(ISSUER).unwrap();
    let client = Client::public(issuer.clone(), ID)
        .unwrap()
        .transport(web.transport());
    (client, issuer)
}

fn login(web: &Web) -> AuthorizationCode {
    let (client, issuer) = client(web);
    AuthorizationCode::new(client, issuer).unwrap()
}

/// Returns the result of a redirect with this `iss`.
async fn finish_login(login: &AuthorizationCode, iss: Option<&str>) -> Result<(), Error> {
    let request = login.begin(CALLBACK).await?;
    let state = request.url().split_once("state=").unwrap().1;
    let state = state.split('&').next().unwrap();
    let mut response = format!("{CALLBACK}?code=c&state={state}");
    if let Some(iss) = iss {
        response.extend(["&iss=", iss]);
    }
    request.read(&response).map(drop)
}

#[tokio::test]
async fn the_browser_is_sent_where_the_metadata_says() {
    let web = web(&json!({"code_challenge_methods_supported": ["plain", "S256"]}));
    let request = login(&web).begin(CALLBACK).await.unwrap();
    let start = "https://login.example.com/authorize?";
    assert!(request.url().starts_with(start), "{}", request.url());
    // Each `AuthorizationCode` looks up the metadata once for all its logins.
    login(&web).begin(CALLBACK).await.unwrap();
    let login = login(&web);
    for _ in 0..3 {
        login.begin(CALLBACK).await.unwrap();
    }
    assert_eq!(web.take_lines().len(), 3);
}

#[tokio::test]
async fn whoever_sends_it_back_must_not_say_that_it_is_another() {
    let login = login(&web(&json!({})));
    finish_login(&login, None).await.unwrap();
    finish_login(&login, Some(ISSUER)).await.unwrap();
    let error = finish_login(&login, Some("https://evil.example.com")).await;
    assert!(error.unwrap_err().is_reply());
}

#[tokio::test]
async fn a_server_that_always_says_who_it_is_must_say_so() {
    let says = json!({"authorization_response_iss_parameter_supported": true});
    let web = web(&says);
    finish_login(&login(&web), Some(ISSUER)).await.unwrap();
    assert!(
        finish_login(&login(&web), None)
            .await
            .unwrap_err()
            .is_reply()
    );
    // A configured issuer takes precedence over the metadata.
    let told = login(&web).issuer("https://told.example.com");
    finish_login(&told, None).await.unwrap();
    finish_login(&told, Some("https://told.example.com"))
        .await
        .unwrap();
    assert!(finish_login(&told, Some(ISSUER)).await.is_err());
}

#[tokio::test]
async fn a_server_that_knows_pkce_only_by_a_method_that_is_none_is_not_logged_in_at() {
    let web = web(&json!({"code_challenge_methods_supported": ["plain"]}));
    let error = login(&web).begin(CALLBACK).await.unwrap_err();
    assert!(error.is_config());
    assert!(error.to_string().contains("S256"), "{error}");
}

#[tokio::test]
async fn without_an_endpoint_in_the_metadata_the_error_names_its_field() {
    let web = web(&json!({"authorization_endpoint": null, "device_authorization_endpoint": null}));
    let error = login(&web).begin(CALLBACK).await.unwrap_err();
    assert!(
        error.to_string().contains("`authorization_endpoint`"),
        "{error}"
    );
    let (client, issuer) = client(&web);
    let device = DeviceAuthorization::new(client, issuer).unwrap();
    let error = device.begin().await.unwrap_err();
    let field = "`device_authorization_endpoint`";
    assert!(error.to_string().contains(field), "{error}");
}

#[tokio::test]
async fn a_device_asks_where_the_metadata_says() {
    let web = web(&json!({}));
    let prompt = json!({
        "device_code": "d",
        "user_code": "ABCD",
        "verification_uri": "https://login.example.com/code",
        "expires_in": 60,
    });
    web.put("https://login.example.com/device", Page::json(200, &prompt));
    let (client, issuer) = client(&web);
    let device = DeviceAuthorization::new(client, issuer).unwrap();
    let prompt = device.begin().await.unwrap();
    assert_eq!(prompt.user_code(), "ABCD");
    assert_eq!(web.times("POST https://login.example.com/device"), 1);
}
