//! Client authentication with an assertion (RFC 7521 §4.2, RFC 7523 §2.2).

use std::fs;

use tower_auth::oauth2::{Client, ClientCredentials, RefreshToken};
use tower_auth::{BoxError, Reason, SecretSource, TokenCache, TokenSource};

use crate::support::form_server::FormServer;
use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn source(client: Client) -> ClientCredentials {
    ClientCredentials::with_client(client)
}

async fn fetch(client: Client) -> Result<(), tower_auth::Error> {
    source(client).fetch(Reason::First).await.map(drop)
}

#[tokio::test]
async fn the_request_is_that_of_the_rfc() {
    let server = FormServer::issuing();
    fetch(server.public().client_assertion("the-jwt"))
        .await
        .unwrap();
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_id", ID),
        ("client_assertion_type", TYPE),
        ("client_assertion", "the-jwt"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(server.form().pairs, expected);
}

#[tokio::test]
async fn in_json_it_is_the_same() {
    let server = TokenServer::issuing();
    let client = Client::public(URL, ID)
        .unwrap()
        .transport(server.transport());
    fetch(client.client_assertion("the-jwt").json())
        .await
        .unwrap();
    let request = server.request();
    let json: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(json["client_assertion"], "the-jwt");
    assert_eq!(json["client_assertion_type"], TYPE);
}

/// The client id is optional, because the assertion contains it (RFC 7521 §4.2).
#[tokio::test]
async fn a_client_without_an_id_leaves_it_to_the_assertion() {
    let server = FormServer::issuing();
    fetch(server.anonymous().client_assertion("the-jwt"))
        .await
        .unwrap();
    let form = server.form();
    assert_eq!(form.get("client_assertion"), "the-jwt");
    assert!(form.all("client_id").is_empty());
}

#[tokio::test]
async fn no_request_authenticates_in_two_ways() {
    let server = TokenServer::issuing();
    let client = || {
        Client::new(URL, ID, SECRET)
            .unwrap()
            .transport(server.transport())
    };
    let assertion = "client_assertion=the-jwt";
    for (client, in_the_body, basic) in [
        (client().client_assertion("the-jwt"), assertion, false),
        (
            client().basic_auth().client_assertion("the-jwt"),
            assertion,
            false,
        ),
        // If several methods are set, the last one counts.
        (
            client().client_assertion("the-jwt").basic_auth(),
            "grant_type",
            true,
        ),
    ] {
        fetch(client).await.unwrap();
        let (request, body) = (server.request(), server.request().text());
        assert!(body.contains(in_the_body), "{body}");
        assert!(!body.contains("client_secret"), "{body}");
        assert_eq!(body.contains("assertion"), !basic, "{body}");
        assert_eq!(request.headers().contains_key("authorization"), basic);
    }
}

#[tokio::test]
async fn a_file_that_is_rotated_is_read_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let server = FormServer::issuing();
    let client = server.public().client_assertion(SecretSource::file(&file));
    let source = source(client);

    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_config(), "{error:?}");
    assert!(
        error.to_string().contains("/token can't be read"),
        "{error}"
    );
    fs::write(&file, "\n").unwrap();
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.to_string().contains("/token is empty"), "{error}");
    assert!(server.forms().is_empty());

    for text in ["first", "second"] {
        fs::write(&file, format!("{text}\n")).unwrap();
        source.fetch(Reason::Stale).await.unwrap();
    }
    let forms = server.forms();
    let sent: Vec<_> = forms.iter().map(|f| f.get("client_assertion")).collect();
    assert_eq!(sent, ["first", "second"]);
}

#[tokio::test]
async fn an_empty_assertion_is_an_error_and_nothing_is_sent() {
    let server = FormServer::issuing();
    let error = fetch(server.public().client_assertion("")).await;
    assert!(error.unwrap_err().is_config());
    assert!(server.forms().is_empty());
}

#[tokio::test]
async fn an_assertion_that_cannot_be_read_for_a_moment_is_asked_for_again_within_the_fetch() {
    let server = FormServer::issuing();
    let times = std::sync::atomic::AtomicUsize::new(0);
    let assertion = SecretSource::from_fn(move || {
        let is_first = times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        async move {
            if is_first {
                return Err(BoxError::from(tower_auth::Error::transient("busy")));
            }
            Ok("the-jwt".into())
        }
    });
    let client = server.public().client_assertion(assertion);
    tokio::time::pause();
    let token = TokenCache::new(source(client)).token().await.unwrap();
    assert_eq!(token.secret(), "issued-1");
}

#[tokio::test]
async fn the_revocation_endpoint_gets_one_too() {
    let server = FormServer::issuing();
    let client = server.public().client_assertion("the-jwt");
    let client = client.revoke_at("https://id.example.com/revoke").unwrap();
    let cache = TokenCache::new(source(client));
    cache.token().await.unwrap();
    cache.close().await;
    let forms = server.forms();
    assert_eq!(forms[1].path, "/revoke");
    assert_eq!(forms[1].get("token"), "issued-1");
    assert_eq!(forms[1].get("client_assertion"), "the-jwt");
    assert_eq!(forms[1].get("client_assertion_type"), TYPE);
}

#[test]
fn what_says_who_the_client_is_is_no_parameter_of_any_grant() {
    for name in [
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
    ] {
        let client = || FormServer::issuing().client();
        let error = source(client()).param(name, "x").unwrap_err();
        assert!(error.is_config() && error.to_string().contains(name));
        let error = RefreshToken::new(client(), "t").param(name, "x");
        assert!(error.unwrap_err().is_config(), "{name}");
    }
}

#[tokio::test]
async fn nothing_shows_an_assertion() {
    let server = FormServer::new(|_, form| {
        let echo = form.get("client_assertion");
        let body = format!(r#"{{"error":"invalid_client","error_description":"bad {echo}"}}"#);
        (401, body)
    });
    let source = source(server.public().client_assertion("planted.jwt.x"));
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_invalid_client());
    let shown = format!("{source:?} {source:#?} {}", all_text_of(&error));
    assert!(!shown.contains("planted"), "{shown}");
    assert!(shown.contains("bad [redacted]"), "{shown}");
}

#[cfg(feature = "jwt")]
mod signed {
    use std::collections::HashSet;
    use std::time::Duration;

    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
    use serde_json::Value;
    use tower_auth::oauth2::{JwsAlgorithm, SignedJwt, SigningKey};

    use super::*;
    use crate::support::form_server::{Form, issued};
    use crate::support::keys::EC_PKCS8;
    use crate::support::keys::{HMAC_SECRET, verified};

    fn key() -> SigningKey {
        SigningKey::pem(JwsAlgorithm::ES256, EC_PKCS8)
            .unwrap()
            .key_id("key-1")
    }

    fn claims(form: &Form) -> Value {
        let data = verified(form.get("client_assertion"), Algorithm::ES256, URL);
        assert_eq!(data.header.kid.as_deref(), Some("key-1"));
        data.claims
    }

    #[tokio::test]
    async fn private_key_jwt_is_signed_by_the_client_for_the_token_endpoint() {
        let server = FormServer::issuing();
        fetch(server.public().private_key_jwt(key()).unwrap())
            .await
            .unwrap();
        let form = server.form();
        assert_eq!(
            form.names(),
            [
                "grant_type",
                "client_id",
                "client_assertion_type",
                "client_assertion"
            ]
        );
        assert_eq!(form.get("client_assertion_type"), TYPE);
        let claims = claims(&form);
        assert_eq!(claims["iss"], ID);
        assert_eq!(claims["sub"], ID);
        assert_eq!(claims["aud"], URL);
        let [iat, exp] = ["iat", "exp"].map(|name| claims[name].as_u64().unwrap());
        assert_eq!(exp - iat, 60);
    }

    #[tokio::test]
    async fn it_may_be_for_another_audience() {
        let server = FormServer::issuing();
        let issuer = "https://id.example.com";
        let jwt = SignedJwt::new(key())
            .issuer(ID)
            .subject(ID)
            .audience(issuer);
        fetch(server.public().client_assertion(jwt)).await.unwrap();
        let form = server.form();
        let jwt = form.get("client_assertion");
        assert_eq!(
            verified(jwt, Algorithm::ES256, issuer).claims["aud"],
            issuer
        );
    }

    #[tokio::test(start_paused = true)]
    async fn no_two_requests_have_the_same_jti_not_even_within_one_fetch() {
        let server = FormServer::new(|number, _| match number {
            1 | 2 => (503, String::new()),
            _ => (200, issued(number)),
        });
        let client = server.public().private_key_jwt(key()).unwrap();
        let cache = TokenCache::new(source(client));
        // The first fetch makes three attempts, and the second makes one.
        assert_eq!(cache.token().await.unwrap().secret(), "issued-3");
        tokio::time::advance(Duration::from_secs(2)).await;
        cache.refresh_now().await.unwrap();
        let forms = server.forms();
        assert_eq!(forms.len(), 4);
        let seen: HashSet<_> = forms.iter().map(|f| claims(f)["jti"].clone()).collect();
        assert_eq!(seen.len(), 4, "{seen:?}");
    }

    #[tokio::test]
    async fn as_a_token_is_revoked_it_is_signed_again_for_the_token_endpoint() {
        let server = FormServer::issuing();
        let client = server.public().private_key_jwt(key()).unwrap();
        let client = client.revoke_at("https://id.example.com/revoke").unwrap();
        let cache = TokenCache::new(source(client));
        cache.token().await.unwrap();
        cache.close().await;
        let forms = server.forms();
        assert_eq!(forms[1].path, "/revoke");
        let [first, second] = [claims(&forms[0]), claims(&forms[1])];
        assert_ne!(first["jti"], second["jti"]);
        assert_eq!(second["aud"], URL);
    }

    #[tokio::test]
    async fn secret_jwt_is_signed_with_the_secret_and_does_not_send_it() {
        let server = FormServer::issuing();
        let client = Client::new(URL, ID, HMAC_SECRET)
            .unwrap()
            .transport(server.transport());
        fetch(client.secret_jwt().unwrap()).await.unwrap();
        let form = server.form();
        assert!(form.all("client_secret").is_empty());
        let jwt = form.get("client_assertion");
        let claims = verified(jwt, Algorithm::HS256, URL).claims;
        assert_eq!((&claims["iss"], &claims["sub"]), (&ID.into(), &ID.into()));
    }

    #[tokio::test]
    async fn secret_jwt_picks_up_a_rotated_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let server = FormServer::issuing();
        let secret = SecretSource::file(&file);
        let client = Client::new(URL, ID, secret)
            .unwrap()
            .transport(server.transport());
        let source = source(client.secret_jwt().unwrap());
        for number in 0..2 {
            let secret = format!("{HMAC_SECRET} {number}");
            fs::write(&file, &secret).unwrap();
            source.fetch(Reason::First).await.unwrap();
            let mut validation = Validation::new(Algorithm::HS256);
            validation.set_audience(&[URL]);
            let forms = server.forms();
            let key = DecodingKey::from_secret(secret.as_bytes());
            decode::<Value>(forms[number].get("client_assertion"), &key, &validation).unwrap();
        }
        fs::write(&file, "short").unwrap();
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.is_config() && error.to_string().contains("32 bytes"));
    }

    #[test]
    fn a_client_that_cannot_sign_is_an_error_at_once() {
        let server = FormServer::issuing();
        for client in [
            server.anonymous().private_key_jwt(key()),
            server.public().secret_jwt(),
            // This client's secret is too short for HS256.
            server.client().secret_jwt(),
        ] {
            let error = client.unwrap_err();
            assert!(error.is_config(), "{error:?}");
            assert!(!all_text_of(&error).contains(SECRET));
        }
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_read_is_named_and_nothing_is_sent() {
        let server = FormServer::issuing();
        let file = SecretSource::file("/nonexistent/key.pem");
        let key = SigningKey::pem(JwsAlgorithm::ES256, file).unwrap();
        let error = fetch(server.public().private_key_jwt(key).unwrap()).await;
        let error = error.unwrap_err();
        assert!(error.is_config() && error.is_permanent(), "{error:?}");
        assert!(
            error.to_string().contains("/nonexistent/key.pem"),
            "{error}"
        );
        assert!(server.forms().is_empty());
    }
}
