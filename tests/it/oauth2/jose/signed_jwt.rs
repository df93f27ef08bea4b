//! JWTs that are signed again for each use.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tower_auth::SecretSource;
use tower_auth::oauth2::{SignedJwt, SigningKey};

use crate::support::keys::{EC_JWK, verified};

fn jwt() -> SignedJwt {
    SignedJwt::new(SigningKey::jwk(EC_JWK).unwrap())
}

async fn claims(jwt: SignedJwt) -> Value {
    let jwt = SecretSource::from(jwt).read().await.unwrap();
    verified(jwt.expose_secret(), Algorithm::ES256, "you").claims
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

#[tokio::test]
async fn it_says_what_it_was_told_to_and_when_it_was_signed() {
    let earliest = now();
    let jwt = jwt()
        .issuer("me")
        .subject("them")
        .audience("you")
        .claim("scope", "read write")
        .unwrap()
        .claim("n", 7)
        .unwrap();
    let claims = claims(jwt).await;
    let iat = claims["iat"].as_u64().unwrap();
    assert!((earliest..=now()).contains(&iat));
    let expected = json!({
        "iss": "me",
        "sub": "them",
        "aud": "you",
        "scope": "read write",
        "n": 7,
        "iat": iat,
        "exp": iat + 60,
        "jti": claims["jti"],
    });
    assert_eq!(claims, expected);
}

#[tokio::test]
async fn what_it_was_not_told_it_does_not_say() {
    let claims = claims(jwt().audience("you")).await;
    let names: HashSet<_> = claims.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

#[tokio::test]
async fn several_audiences_are_an_array() {
    let claims = claims(jwt().audience("you").audience("them")).await;
    assert_eq!(claims["aud"], json!(["you", "them"]));
}

#[tokio::test]
async fn its_lifetime_is_whole_seconds_and_at_least_one() {
    for (lifetime, seconds) in [(3600.9, 3600), (1.0, 1), (0.3, 1), (0.0, 1)] {
        let lifetime = Duration::from_secs_f64(lifetime);
        let claims = claims(jwt().audience("you").lifetime(lifetime)).await;
        let [iat, exp] = ["iat", "exp"].map(|name| claims[name].as_u64().unwrap());
        assert_eq!(exp - iat, seconds);
    }
    let claims = claims(jwt().audience("you").lifetime(Duration::MAX)).await;
    assert_eq!(claims["exp"], u64::MAX);
}

#[tokio::test]
async fn no_two_of_it_have_the_same_jti() {
    let jwt = SecretSource::from(jwt().audience("you"));
    let mut seen = HashSet::new();
    for _ in 0..1_000 {
        let jwt = jwt.clone().read().await.unwrap();
        let claims = verified(jwt.expose_secret(), Algorithm::ES256, "you").claims;
        let jti = claims["jti"].as_str().unwrap().to_owned();
        // In base64url, 128 bits are 22 characters.
        assert_eq!(jti.len(), 22);
        assert!(seen.insert(jti));
    }
}

#[test]
fn claims_that_have_a_method_of_their_own_or_are_set_already_are_refused() {
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "", "scope"] {
        let jwt = jwt().claim("scope", "read").unwrap();
        let error = jwt.claim(name, "planted").unwrap_err();
        assert!(error.is_config(), "{name}");
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        assert!(!format!("{error:?}").contains("planted"), "{error:?}");
    }
}
