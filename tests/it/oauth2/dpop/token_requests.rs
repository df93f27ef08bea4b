//! Proofs for the token endpoint, and the nonces that the endpoint requires.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use sha2::{Digest, Sha256};
use tower::Layer;
use tower_auth::oauth2::{Client, ClientCredentials, DpopKey, RefreshToken, SignedJwt, SigningKey};
use tower_auth::{Reason, TokenSource};

use super::{credentials, issue, layer, ok, proofs, respond, server};
use crate::support::call;
use crate::support::token_server::{ID, SECRET, TokenServer, URL};

#[tokio::test]
async fn the_token_request_and_each_request_have_a_proof_of_their_own() {
    let (layer, asked, key) = layer();
    let (api, seen) = server(|_, _| ok());
    let mut client = layer.layer(api);
    for address in [
        "https://API.example.com:443/a%20b/c?secret=1",
        "https://api.example.com:8443/",
        "http://localhost/x",
    ] {
        let request = Request::put(address).body(String::new()).unwrap();
        call(&mut client, request).await.unwrap();
    }
    let [asking] = &proofs(&asked)[..] else {
        panic!("one token was asked for");
    };
    assert_eq!((&*asking.htm, &*asking.htu), ("POST", URL));
    assert_eq!((&asking.ath, &asking.nonce), (&None, &None));
    let sent = proofs(&seen);
    let addresses: Vec<_> = sent.iter().map(|proof| &*proof.htu).collect();
    assert_eq!(
        addresses,
        [
            "https://api.example.com/a%20b/c",
            "https://api.example.com:8443/",
            "http://localhost/x"
        ]
    );
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest("token-1"));
    for proof in sent.iter().chain([asking]) {
        assert_eq!(proof.thumbprint, key.thumbprint());
        assert_eq!(proof.jti.len(), 22, "128 bits");
    }
    for proof in &sent {
        assert_eq!(proof.htm, "PUT");
        assert_eq!(proof.ath.as_ref(), Some(&hash));
    }
    assert_eq!(credentials(&seen), ["DPoP token-1"; 3]);
    let distinct: HashSet<_> = sent.iter().chain([asking]).map(|p| &p.jti).collect();
    assert_eq!(distinct.len(), 4);
}

#[tokio::test]
async fn a_token_endpoint_that_wants_a_nonce_gets_it_with_a_new_proof_and_a_new_assertion() {
    let (issuer, asked) = server(|number, _| match number {
        1 => respond(
            400,
            "dpop-nonce",
            "n-1",
            r#"{"error":"use_dpop_nonce","error_description":"nonce!"}"#,
        ),
        _ => issue(number),
    });
    let key = SigningKey::hmac("a secret of at least thirty-two bytes").unwrap();
    let assertion = SignedJwt::new(key).issuer(ID).subject(ID).audience(URL);
    let client = Client::public(URL, ID).unwrap().transport(issuer);
    let client = client.client_assertion(assertion);
    let source = ClientCredentials::with_client(client.dpop(DpopKey::generate().unwrap()));
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "token-2");
    let sent = proofs(&asked);
    assert_eq!(sent[0].nonce, None);
    assert_eq!(sent[1].nonce.as_deref(), Some("n-1"));
    assert_ne!(sent[0].jti, sent[1].jti);
    let bodies = asked.requests().into_iter().map(|request| request.text());
    let bodies: Vec<_> = bodies.collect();
    assert!(bodies[0].contains("client_assertion="));
    assert_ne!(bodies[0], bodies[1], "the server has seen the assertion");
    // The next fetch sends the remembered nonce at once.
    source.fetch(Reason::Stale).await.unwrap();
    assert_eq!(proofs(&asked)[2].nonce.as_deref(), Some("n-1"));
}

/// The JWT is part of the grant. A retry must not send the same JWT again.
#[tokio::test]
async fn a_jwt_of_a_service_account_is_signed_again_for_the_nonce_too() {
    let (issuer, asked) = server(|number, _| match number {
        1 => respond(400, "dpop-nonce", "n-1", r#"{"error":"use_dpop_nonce"}"#),
        _ => issue(number),
    });
    let key = SigningKey::hmac("a secret of at least thirty-two bytes").unwrap();
    let assertion = SignedJwt::new(key).issuer(ID).audience(URL);
    let client = Client::anonymous(URL).unwrap().transport(issuer);
    let client = client.dpop(DpopKey::generate().unwrap());
    let source = tower_auth::oauth2::JwtBearer::new(client, assertion);
    source.fetch(Reason::First).await.unwrap();
    let nonces: Vec<_> = proofs(&asked).into_iter().map(|p| p.nonce).collect();
    assert_eq!(nonces, [None, Some(String::from("n-1"))]);
    let asked = asked.requests();
    assert!(asked[0].text().contains("assertion=ey"));
    assert_ne!(asked[0].body(), asked[1].body());
}

#[cfg(feature = "authorization-code")]
#[tokio::test]
async fn a_code_is_bound_to_the_key_from_the_start() {
    let key = DpopKey::generate().unwrap();
    let issuer = TokenServer::issuing().transport();
    let client = Client::public(URL, ID).unwrap().transport(issuer);
    let login = tower_auth::oauth2::AuthorizationCode::new(
        client.dpop(key.clone()),
        "https://id.example.com/authorize",
    );
    let begun = login.unwrap().begin("http://127.0.0.1:1/").await.unwrap();
    let jkt = format!("dpop_jkt={}", key.thumbprint());
    assert!(begun.url().contains(&jkt));
}

#[tokio::test]
async fn a_token_endpoint_that_is_never_content_with_a_nonce_is_asked_twice_an_attempt() {
    let wants = r#"{"error":"use_dpop_nonce"}"#;
    let (issuer, asked) =
        server(move |number, _| respond(400, "dpop-nonce", &format!("n-{number}"), wants));
    let client = Client::new(URL, ID, SECRET).unwrap().transport(issuer);
    let source = ClientCredentials::with_client(client.dpop(DpopKey::generate().unwrap()));
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert_eq!(error.code(), Some("use_dpop_nonce"));
    assert!(error.is_transient(), "another nonce may do");
    assert_eq!(asked.requests().len(), 2);

    // This response has no nonce, so there is nothing to retry with.
    let (issuer, asked) = server(move |_, _| respond(400, "x", "", wants));
    let client = Client::new(URL, ID, SECRET).unwrap().transport(issuer);
    let source = ClientCredentials::with_client(client.dpop(DpopKey::generate().unwrap()));
    source.fetch(Reason::First).await.unwrap_err();
    assert_eq!(asked.requests().len(), 1);
}

#[tokio::test]
async fn a_refresh_token_is_used_with_a_proof_too() {
    let (issuer, asked) = server(|number, _| issue(number));
    let client = Client::public(URL, ID).unwrap().transport(issuer);
    let key = DpopKey::generate().unwrap();
    let source = RefreshToken::new(client.dpop(key.clone()), "refresh");
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(proofs(&asked)[0].thumbprint, key.thumbprint());
}
