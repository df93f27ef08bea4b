//! `AuthorizationServer`: refresh tokens, their rotation, and logins with a browser.

use serde_json::json;
use tower_auth::oauth2::{AuthorizationCode, AuthorizationRequest, Client, RefreshToken};
use tower_auth::{Reason, TokenCache, TokenSource};
use tower_auth_test::{Api, AuthorizationServer, RefreshTokens, ScriptedResponse};

use crate::support::{Body, get_with, post, send};

const REDIRECT: &str = "https://app.example.com/callback?tab=1";

fn client(server: &AuthorizationServer, id: &str) -> Client {
    let client = Client::public(server.token_url(), id).unwrap();
    client.transport(server.clone())
}

/// Refreshes with a form. Returns the status, the error or the access token, and the new refresh
/// token.
async fn refresh(server: &AuthorizationServer, form: &[(&str, &str)]) -> (u16, String, String) {
    let grant = [("grant_type", "refresh_token")];
    let form: Vec<_> = grant.iter().chain(form).copied().collect();
    let (status, body) = post(server, "/oauth/token", &form).await;
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let what = text("access_token") + &text("error");
    (status.as_u16(), what, text("refresh_token"))
}

async fn is_accepted(api: &Api, token: &str) -> bool {
    send(api, get_with("/", token)).await.unwrap().status() == 200
}

#[tokio::test]
async fn a_reusable_refresh_token_is_used_again_and_again() {
    let server = AuthorizationServer::new();
    let token = server.log_in();
    assert_eq!(token, "refresh-1");
    for number in 1..=3 {
        let refreshed = refresh(&server, &[("refresh_token", &token)]).await;
        assert_eq!(refreshed, (200, format!("token-{number}"), String::new()));
    }
    assert_eq!(server.refresh_tokens(), ["refresh-1"]);
    assert_eq!(server.refresh_token_reuses(), 0);
    assert_eq!(server.issued()[0].grant_type(), "refresh_token");
}

#[tokio::test]
async fn a_source_follows_the_rotation() {
    let server = AuthorizationServer::new();
    server.set_refresh_tokens(RefreshTokens::Rotating);
    let source = RefreshToken::new(client(&server, "my-app"), server.log_in());
    let cache = TokenCache::new(source);
    cache.token().await.unwrap();
    assert_eq!(server.refresh_tokens(), ["refresh-2"]);
    cache.refresh_now().await.unwrap();
    assert_eq!(server.refresh_tokens(), ["refresh-3"]);
    assert_eq!(server.refresh_token_reuses(), 0);
    server.assert_tokens_issued(2);
}

#[tokio::test]
async fn a_reused_refresh_token_ends_its_login_and_revokes_its_tokens() {
    let server = AuthorizationServer::new();
    server.set_refresh_tokens(RefreshTokens::Rotating);
    let api = Api::new(&server);
    let (thief, other) = (server.log_in(), server.log_in());
    let source = RefreshToken::new(client(&server, "my-app"), thief.clone());
    source.fetch(Reason::First).await.unwrap();
    source.fetch(Reason::Expired).await.unwrap();
    let others = RefreshToken::new(client(&server, "my-app"), other);
    others.fetch(Reason::First).await.unwrap();
    assert!(is_accepted(&api, "token-1").await && is_accepted(&api, "token-2").await);

    let stolen = refresh(&server, &[("refresh_token", &thief)]).await;
    assert_eq!((stolen.0, stolen.1.as_str()), (400, "invalid_grant"));
    assert_eq!(server.refresh_token_reuses(), 1);
    assert!(!is_accepted(&api, "token-1").await && !is_accepted(&api, "token-2").await);
    assert!(is_accepted(&api, "token-3").await);
    assert_eq!(server.refresh_tokens(), ["refresh-5"]);
    let error = source.fetch(Reason::Expired).await.unwrap_err();
    assert!(error.is_login_required());
    others.fetch(Reason::Expired).await.unwrap();
    assert_eq!(server.refresh_token_reuses(), 1);
}

#[tokio::test]
async fn a_rotation_whose_response_was_lost_is_a_reuse() {
    let server = AuthorizationServer::new();
    server.set_refresh_tokens(RefreshTokens::Rotating);
    let source = RefreshToken::new(client(&server, "my-app"), server.log_in());
    server.respond_next(ScriptedResponse::as_usual().reset_after(0));
    source.fetch(Reason::First).await.unwrap_err();
    assert_eq!(server.refresh_tokens(), ["refresh-2"]);
    source.fetch(Reason::First).await.unwrap_err();
    assert_eq!(server.refresh_token_reuses(), 1);
}

#[tokio::test]
async fn an_unknown_or_missing_refresh_token_is_refused() {
    let server = AuthorizationServer::new();
    let unknown = refresh(&server, &[("refresh_token", "unknown")]).await;
    assert_eq!((unknown.0, unknown.1.as_str()), (400, "invalid_grant"));
    let missing = refresh(&server, &[]).await;
    assert_eq!((missing.0, missing.1.as_str()), (400, "invalid_request"));
    assert_eq!(server.refresh_token_reuses(), 0);
}

#[tokio::test]
async fn a_person_who_is_logged_out_has_to_log_in_again() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    let source = RefreshToken::new(client(&server, "my-app"), server.log_in());
    source.fetch(Reason::First).await.unwrap();
    server.log_everybody_out();
    assert!(server.refresh_tokens().is_empty());
    let error = source.fetch(Reason::Expired).await.unwrap_err();
    assert!(error.is_login_required());
    assert!(is_accepted(&api, "token-1").await);
    assert_eq!(server.log_in(), "refresh-2");
}

#[tokio::test]
async fn a_client_that_closes_revokes_its_login() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    let client = client(&server, "my-app").revoke_at(server.revocation_url());
    let source = RefreshToken::new(client.unwrap(), server.log_in());
    let cache = TokenCache::new(source.log_out_on_close().unwrap());
    cache.token().await.unwrap();
    cache.close().await;
    assert!(server.refresh_tokens().is_empty());
    assert!(!is_accepted(&api, "token-1").await);
}

/// Logs in with a browser, up to the response of the authorization endpoint.
async fn log_in(
    server: &AuthorizationServer,
    id: &str,
) -> (AuthorizationCode, AuthorizationRequest, String) {
    let login = AuthorizationCode::new(client(server, id), server.authorization_url());
    let login = login
        .unwrap()
        .scope("read write")
        .require_issuer(server.issuer());
    let request = login.begin(REDIRECT).await.unwrap();
    let location = browse(server, request.url()).await.unwrap();
    (login, request, location)
}

/// Opens an address as a browser does. Returns where the server redirects it.
async fn browse(server: &AuthorizationServer, url: &str) -> Option<String> {
    let request = http::Request::get(url).body(Body::default()).unwrap();
    let response = send(server, request).await.unwrap();
    let location = response.headers().get("location")?;
    assert_eq!(response.status(), 302);
    Some(location.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_person_logs_in_with_a_browser() {
    let server = AuthorizationServer::new();
    server.add_client("my-app", "");
    server.set_refresh_tokens(RefreshTokens::Rotating);
    let (login, request, location) = log_in(&server, "my-app").await;
    assert!(location.starts_with("https://app.example.com/callback?tab=1&code=code-1&state="));
    let response = request.read(&location).unwrap();
    let source = login.finish(request, response).await.unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.scope(), Some("read write"));
    let issued = server.issued();
    assert_eq!(issued[0].grant_type(), "authorization_code");
    assert!(
        issued
            .iter()
            .all(|it| it.client_id() == "my-app" && it.scope() == "read write")
    );
    source.fetch(Reason::Expired).await.unwrap();
    assert_eq!(server.refresh_token_reuses(), 0);
    assert_eq!(server.refresh_tokens().len(), 1);
}

#[tokio::test]
async fn a_code_is_accepted_once_and_only_with_what_it_was_issued_for() {
    // The challenge of RFC 7636, appendix B.
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let authorize = "https://id.example.com/authorize?response_type=code&client_id=my-app\
        &redirect_uri=https://app.example.com/&code_challenge_method=S256\
        &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let server = AuthorizationServer::new();
    let right = [
        ("grant_type", "authorization_code"),
        ("client_id", "my-app"),
        ("redirect_uri", "https://app.example.com/"),
        ("code_verifier", verifier),
    ];
    let mut number = 0;
    let mut exchange = async |name: &str, value: &'static str| {
        number += 1;
        let location = browse(&server, authorize).await.unwrap();
        let code = format!("code-{number}");
        let expected =
            format!("https://app.example.com/?code={code}&iss=https%3A%2F%2Fid.example.com");
        assert_eq!(location, expected);
        let mut form: Vec<(&str, &str)> = vec![("code", &code)];
        form.extend(right.iter().filter(|field| field.0 != name));
        form.push((name, value));
        let (status, body) = post(&server, "/oauth/token", &form).await;
        let again = post(&server, "/oauth/token", &form).await;
        assert_eq!(again.0, 400, "a code is accepted once");
        (
            status.as_u16(),
            body["error_description"].as_str().map(str::to_owned),
        )
    };
    assert_eq!(exchange("unused", "").await, (200, None));
    for (name, value, expected) in [
        ("code_verifier", "another", "the code_verifier is wrong"),
        (
            "redirect_uri",
            "https://evil.example.com/",
            "the redirect_uri differs",
        ),
        ("client_id", "another", "the code is another client's"),
        ("code", "code-0", "the code is unknown or was used before"),
    ] {
        assert_eq!(
            exchange(name, value).await,
            (400, Some(expected.to_owned()))
        );
    }
    server.assert_tokens_issued(1);
}

#[tokio::test]
async fn the_authorization_endpoint_refuses_what_it_does_not_understand() {
    let server = AuthorizationServer::new();
    server.add_client("my-app", "");
    let url = |query: &str| format!("{}?{query}", server.authorization_url());
    let right = "response_type=code&client_id=my-app&redirect_uri=https://a.example.com/";
    assert!(browse(&server, &url(right)).await.is_some());
    for wrong in [
        "response_type=code&client_id=my-app",
        "response_type=code&redirect_uri=https://a.example.com/",
        "response_type=code&client_id=nobody&redirect_uri=https://a.example.com/",
        "response_type=token&client_id=my-app&redirect_uri=https://a.example.com/",
        &format!("{right}&code_challenge=abc&code_challenge_method=plain"),
        &format!("{right}&code_challenge=abc"),
    ] {
        assert!(browse(&server, &url(wrong)).await.is_none(), "{wrong}");
    }
}

#[tokio::test]
async fn a_refresh_token_is_for_its_client_and_for_its_scope() {
    let server = AuthorizationServer::new();
    server.set_refresh_tokens(RefreshTokens::Rotating);
    let (login, request, location) = log_in(&server, "my-app").await;
    let response = request.read(&location).unwrap();
    login.finish(request, response).await.unwrap();
    let token = ("refresh_token", "refresh-1");

    let other = refresh(&server, &[token, ("client_id", "another")]).await;
    assert_eq!((other.0, other.1.as_str()), (400, "invalid_grant"));
    let my = ("client_id", "my-app");
    let more = refresh(&server, &[token, my, ("scope", "read admin")]).await;
    assert_eq!((more.0, more.1.as_str()), (400, "invalid_scope"));
    // Neither has cost the refresh token.
    let less = refresh(&server, &[token, my, ("scope", "read")]).await;
    assert_eq!(less, (200, "token-2".into(), "refresh-2".into()));
    assert_eq!(server.issued()[1].scope(), "read");
    let all = refresh(&server, &[("refresh_token", "refresh-2"), my]).await;
    assert_eq!(all.0, 200);
    assert_eq!(server.issued()[2].scope(), "read write");
    let (_, body) = post(&server, "/oauth/token", &[("grant_type", "x")]).await;
    assert_eq!(body.get("refresh_token"), None);
    assert_eq!(body["access_token"], json!("token-4"));
}
