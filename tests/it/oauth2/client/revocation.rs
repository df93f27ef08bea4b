//! A cache that is closed revokes its tokens (RFC 7009).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower_auth::oauth2::{Client, ClientCredentials, RefreshToken};
use tower_auth::{Error, Reason, Token, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::paused;
use crate::support::token_server::{ID, SECRET, URL, all_text_of};

const REVOKE: &str = "https://id.example.com/oauth/revoke";

/// Builds a client and its server, which issues tokens, and responds to a revocation like this.
fn client(status: u16, body: &'static str) -> (Client, ScriptedServer) {
    let server = ScriptedServer::new(move |request| {
        let is_revocation = request.path() == "/oauth/revoke";
        let content_type = match is_revocation {
            true => "application/x-www-form-urlencoded",
            false => "application/json",
        };
        assert_eq!(request.headers()["content-type"], content_type);
        match is_revocation {
            true => ScriptedResponse::new(status).body(body),
            false => ScriptedResponse::json(
                200,
                r#"{"access_token":"planted-access","refresh_token":"planted-refresh","expires_in":3600}"#,
            ),
        }
    });
    let client = Client::new(URL, ID, SECRET).unwrap();
    let client = client.transport(server.clone()).json();
    (client.revoke_at(REVOKE).unwrap(), server)
}

fn revocations(server: &ScriptedServer) -> Vec<BTreeMap<String, String>> {
    let requests = server.requests().into_iter();
    let revocations = requests.filter(|request| request.path() == "/oauth/revoke");
    revocations.map(|request| request.params()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_token_in_hand_is_revoked_as_the_cache_is_closed() {
    let (client, server) = client(200, "");
    let cache = paused(ClientCredentials::with_client(client)).build();
    cache.token().await.unwrap();
    assert!(revocations(&server).is_empty());
    cache.close().await;
    let expected = [
        ("token", "planted-access"),
        ("token_type_hint", "access_token"),
        ("client_id", ID),
        ("client_secret", SECRET),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(revocations(&server), [BTreeMap::from(expected)]);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_stays_good() {
    let (client, server) = client(200, "");
    let cache = paused(RefreshToken::new(client, "planted-login")).build();
    cache.token().await.unwrap();
    cache.close().await;
    let revoked: Vec<_> = revocations(&server)
        .iter()
        .map(|form| form["token"].clone())
        .collect();
    assert_eq!(revoked, ["planted-access"]);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_to_end_with_the_process_is_revoked_as_it_is_by_then() {
    let (client, server) = client(200, "");
    let source = RefreshToken::new(client, "planted-login");
    let cache = paused(source.log_out_on_close().unwrap()).build();
    cache.token().await.unwrap();
    cache.close().await;
    let revoked: Vec<_> = revocations(&server)
        .iter()
        .map(|form| (form["token"].clone(), form["token_type_hint"].clone()))
        .collect();
    let expected = [
        ("planted-refresh", "refresh_token"),
        ("planted-access", "access_token"),
    ];
    let expected = expected.map(|(token, hint)| (token.to_owned(), hint.to_owned()));
    assert_eq!(revoked, expected);
}

#[tokio::test]
async fn a_login_that_cannot_be_ended_is_told_and_the_token_in_hand_revoked_all_the_same() {
    let (client, server) = client(503, "");
    let source = RefreshToken::new(client, "planted-login");
    let source = source.log_out_on_close().unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    let error = source.close(Some(token)).await.unwrap_err();
    assert!(!all_text_of(&error).contains("planted"), "{error:?}");
    assert_eq!(revocations(&server).len(), 2);
    // Without a revocation endpoint, `log_out_on_close` fails at once.
    let issuer = crate::support::token_server::TokenServer::issuing();
    let client = Client::new(URL, ID, SECRET)
        .unwrap()
        .transport(issuer.transport());
    let error = RefreshToken::new(client, "login").log_out_on_close();
    assert!(error.unwrap_err().to_string().contains("revoke_at"));
}

#[tokio::test(start_paused = true)]
async fn without_a_token_there_is_nothing_to_revoke() {
    let (client, server) = client(200, "");
    paused(ClientCredentials::with_client(client))
        .build()
        .close()
        .await;
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_refusal_is_an_error_that_tells_no_token() {
    let (client, _) = client(
        400,
        r#"{"error":"unsupported_token_type","error_description":"planted-access?"}"#,
    );
    let source = ClientCredentials::with_client(client);
    let token = source.fetch(Reason::First).await.unwrap();
    let error: Error = source.close(Some(token)).await.unwrap_err();
    assert!(error.is_denied(), "{error}");
    assert!(error.to_string().contains("revocation endpoint"), "{error}");
    assert!(!all_text_of(&error).contains("planted"), "{error:?}");
}

/// A 200 means that the token was revoked or was already invalid (RFC 7009 §2.2). Clients ignore
/// the body.
#[tokio::test]
async fn any_success_is_one_whatever_it_says() {
    for body in ["", "{}", "no json", r#"{"error":"invalid_token"}"#] {
        let (client, _) = client(200, body);
        let source = ClientCredentials::with_client(client);
        source
            .close(Some(Token::bearer("x").unwrap()))
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_holds_nobody_up_past_the_close_timeout() {
    let hangs = tower::service_fn(|request: Request<Full<Bytes>>| async move {
        if request.uri().path() == "/oauth/revoke" {
            std::future::pending::<()>().await;
        }
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(
            r#"{"access_token":"t"}"#,
        )))
    });
    let client = Client::new(URL, ID, SECRET).unwrap().transport(hangs);
    let source = ClientCredentials::with_client(client.revoke_at(REVOKE).unwrap());
    let cache = paused(source).build();
    cache.token().await.unwrap();
    let start = tokio::time::Instant::now();
    cache.close().await;
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[test]
fn a_cleartext_address_is_refused() {
    let (client, _) = client(200, "");
    let error = client
        .revoke_at("http://id.example.com/revoke")
        .unwrap_err();
    assert!(error.is_config());
}
