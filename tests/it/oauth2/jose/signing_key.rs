//! Signing keys in every format. A different library verifies the signatures.

use std::fs;

use jsonwebtoken::Algorithm;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tower_auth::oauth2::{JwsAlgorithm, SignedJwt, SigningKey};
use tower_auth::{Error, SecretSource};

use crate::support::keys::{
    EC_CERTIFICATE, EC_ENCRYPTED, EC_ENCRYPTED_TRADITIONAL, EC_JWK, EC_P384, EC_PKCS8, EC_PUBLIC,
    EC_SEC1, ED_JWK, ED_PKCS8, ED_PUBLIC, HMAC_SECRET, RSA_JWK, RSA_PKCS1, RSA_PKCS8, RSA_PUBLIC,
    RSA_WEAK, verified,
};
use crate::support::token_server::all_text_of;

async fn sign(key: SigningKey) -> Result<String, Error> {
    let jwt = SignedJwt::new(key).issuer("me").audience("you");
    let jwt = SecretSource::from(jwt).read().await?;
    Ok(jwt.expose_secret().to_owned())
}

#[tokio::test]
async fn every_algorithm_with_every_form_of_its_key_is_verified() {
    let pem = |algorithm, text: &str| SigningKey::pem(algorithm, text).unwrap();
    let jwk = |text: &str| SigningKey::jwk(text).unwrap();
    for (key, algorithm, key_id) in [
        (pem(JwsAlgorithm::RS256, RSA_PKCS8), Algorithm::RS256, None),
        (pem(JwsAlgorithm::RS256, RSA_PKCS1), Algorithm::RS256, None),
        (pem(JwsAlgorithm::PS256, RSA_PKCS8), Algorithm::PS256, None),
        (pem(JwsAlgorithm::ES256, EC_PKCS8), Algorithm::ES256, None),
        (pem(JwsAlgorithm::ES256, EC_SEC1), Algorithm::ES256, None),
        (pem(JwsAlgorithm::EdDSA, ED_PKCS8), Algorithm::EdDSA, None),
        (jwk(RSA_JWK), Algorithm::RS256, Some("rsa-1")),
        (jwk(EC_JWK), Algorithm::ES256, Some("ec-1")),
        (jwk(ED_JWK), Algorithm::EdDSA, Some("ed-1")),
        (
            jwk(&changed(RSA_JWK, "alg", json!("PS256"))),
            Algorithm::PS256,
            Some("rsa-1"),
        ),
        (jwk(&secret_jwk()), Algorithm::HS256, None),
        (
            SigningKey::hmac(HMAC_SECRET).unwrap(),
            Algorithm::HS256,
            None,
        ),
    ] {
        let shown = format!("{key:?}");
        let jwt = sign(key).await.unwrap();
        let data = verified(&jwt, algorithm, "you");
        assert_eq!(data.header.alg, algorithm, "{shown}");
        assert_eq!(data.header.typ.as_deref(), Some("JWT"), "{shown}");
        assert_eq!(data.header.kid.as_deref(), key_id, "{shown}");
        assert_eq!(data.claims["iss"], "me", "{shown}");
    }
}

/// Returns a JWK with one field changed, or removed if the value is `null`.
fn changed(jwk: &str, name: &str, value: Value) -> String {
    let mut json: Value = serde_json::from_str(jwk).unwrap();
    json[name] = value;
    json.as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    json.to_string()
}

fn secret_jwk() -> String {
    // This is `HMAC_SECRET` in base64url.
    let k = "YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcw";
    json!({"kty": "oct", "k": k}).to_string()
}

#[tokio::test]
async fn zeros_in_front_of_a_modulus_do_no_harm() {
    let json: Value = serde_json::from_str(RSA_JWK).unwrap();
    // In base64url, three zero bytes are `AAAA`.
    let padded = format!("AAAA{}", json["n"].as_str().unwrap());
    let key = SigningKey::jwk(changed(RSA_JWK, "n", padded.into())).unwrap();
    verified(&sign(key).await.unwrap(), Algorithm::RS256, "you");
}

#[tokio::test]
async fn what_is_around_a_key_is_ignored() {
    let text = format!("Bag Attributes\n{EC_CERTIFICATE}\n{EC_PUBLIC}\r\n{EC_PKCS8}\n{EC_P384}");
    let key = SigningKey::pem(JwsAlgorithm::ES256, text).unwrap();
    verified(&sign(key).await.unwrap(), Algorithm::ES256, "you");
}

#[tokio::test]
async fn the_header_names_the_key() {
    // These are SHA-1 and SHA-256 of the empty string, from their specifications.
    let (sha1, sha256) = (
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    );
    let (x5t, x5t_s256) = (
        "2jmj7l5rSw0yVb_vlWAYkK_YBwk",
        "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
    );
    let upper: Vec<_> = sha1.as_bytes().chunks(2).collect();
    let colons = String::from_utf8(upper.join(&b':')).unwrap().to_uppercase();
    for (short, long) in [(x5t, x5t_s256), (sha1, sha256), (colons.as_str(), sha256)] {
        let key = SigningKey::jwk(EC_JWK).unwrap().key_id("mine");
        let key = key.x5t(short).unwrap().x5t_s256(long).unwrap();
        let header = jsonwebtoken::decode_header(sign(key).await.unwrap()).unwrap();
        assert_eq!(header.kid.as_deref(), Some("mine"));
        assert_eq!(header.x5t.as_deref(), Some(x5t));
        assert_eq!(header.x5t_s256.as_deref(), Some(x5t_s256));
    }
    for bad in [
        "",
        "00",
        x5t_s256,
        sha256,
        &sha1[1..],
        &sha1.replace('d', "g"),
    ] {
        let key = SigningKey::jwk(EC_JWK).unwrap();
        assert!(key.x5t(bad).unwrap_err().is_config(), "{bad}");
    }
    for bad in ["", x5t, sha1, &format!("{x5t_s256}=")] {
        let key = SigningKey::jwk(EC_JWK).unwrap();
        assert!(key.x5t_s256(bad).unwrap_err().is_config(), "{bad}");
    }
}

/// Asserts why a key can't be used, and that the error doesn't show the key.
#[track_caller]
fn refused(key: Result<SigningKey, Error>, text: &str, why: &str) {
    let error = key.unwrap_err();
    assert!(error.is_config() && error.is_permanent(), "{error:?}");
    let said = all_text_of(&error);
    assert!(said.contains(why), "{said}");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    for word in words.filter(|word| word.len() > 20) {
        assert!(!said.contains(word), "{said} quotes {word}");
    }
}

#[test]
fn pem_that_is_no_key_for_its_algorithm_is_an_error_at_once() {
    use JwsAlgorithm::{ES256, EdDSA, PS256, RS256};
    let cut = &EC_PKCS8[..EC_PKCS8.len() - 30];
    let one_line = RSA_PKCS8.replace('\n', "\\n");
    let bent = EC_PKCS8.replacen("\nM", "\n!", 1);
    let short = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----";
    for (algorithm, text, why) in [
        (ES256, "", "isn't PEM"),
        (ES256, "planted-planted-planted-planted", "isn't PEM"),
        (ES256, EC_JWK, "isn't PEM"),
        (ES256, cut, "isn't PEM"),
        (ES256, EC_PUBLIC, "of a public key"),
        (RS256, RSA_PUBLIC, "of a public key"),
        (EdDSA, ED_PUBLIC, "of a public key"),
        (ES256, EC_CERTIFICATE, "of a certificate"),
        (ES256, EC_ENCRYPTED, "passphrase"),
        (ES256, EC_ENCRYPTED_TRADITIONAL, "passphrase"),
        (RS256, &one_line, "line breaks"),
        (ES256, &bent, "isn't base64"),
        (ES256, short, "an EC key on the curve P-256"),
        (ES256, RSA_PKCS8, "an EC key on the curve P-256"),
        (ES256, RSA_PKCS1, "an EC key on the curve P-256"),
        (ES256, ED_PKCS8, "an EC key on the curve P-256"),
        (ES256, EC_P384, "an EC key on the curve P-256"),
        (RS256, EC_PKCS8, "an RSA key of 2048"),
        (RS256, EC_SEC1, "an RSA key of 2048"),
        (PS256, ED_PKCS8, "an RSA key of 2048"),
        (RS256, RSA_WEAK, "an RSA key of 2048"),
        (EdDSA, EC_PKCS8, "an Ed25519 key"),
        (EdDSA, RSA_PKCS1, "an Ed25519 key"),
    ] {
        refused(SigningKey::pem(algorithm, text), text, why);
    }
}

#[test]
fn a_jwk_that_is_no_private_key_is_an_error_at_once() {
    for (text, why) in [
        (String::new(), "isn't JSON"),
        (String::from(EC_PKCS8), "isn't JSON"),
        (format!("{EC_JWK}}}"), "isn't JSON"),
        (format!("[{EC_JWK}]"), "not an object"),
        (format!(r#"{{"keys":[{EC_JWK}]}}"#), "set of keys"),
        (changed(EC_JWK, "kty", Value::Null), "no `kty`"),
        (changed(EC_JWK, "kty", json!(7)), "no `kty`"),
        (changed(EC_JWK, "kty", json!("AKP")), "`kty` other than"),
        (changed(EC_JWK, "use", json!("enc")), "`use`"),
        (
            changed(EC_JWK, "alg", json!("ES384")),
            "`alg` other than ES256",
        ),
        (
            changed(EC_JWK, "alg", json!("none")),
            "`alg` other than ES256",
        ),
        (changed(EC_JWK, "alg", json!(256)), "`alg` other than ES256"),
        (changed(RSA_JWK, "alg", json!("HS256")), "RS256 or PS256"),
        (changed(ED_JWK, "alg", json!("ES256")), "other than EdDSA"),
        (
            changed(&secret_jwk(), "alg", json!("none")),
            "other than HS256",
        ),
        (
            changed(EC_JWK, "crv", json!("P-384")),
            "`crv` other than P-256",
        ),
        (
            changed(ED_JWK, "crv", json!("Ed448")),
            "`crv` other than Ed25519",
        ),
        (
            changed(ED_JWK, "crv", Value::Null),
            "`crv` other than Ed25519",
        ),
        (changed(&secret_jwk(), "k", json!("c2hvcnQ")), "32 bytes"),
        (changed(&secret_jwk(), "k", Value::Null), "no `k`"),
    ] {
        refused(SigningKey::jwk(text.as_str()), &text, why);
    }
    for (jwk, names) in [
        (RSA_JWK, &["n", "e", "p", "q", "dp", "dq", "qi"][..]),
        (EC_JWK, &["x", "y"]),
        (ED_JWK, &["x"]),
    ] {
        let text = changed(jwk, "d", Value::Null);
        refused(SigningKey::jwk(text.as_str()), &text, "a public key");
        for name in names.iter().chain(&["d"]) {
            let missing = format!("no `{name}`");
            for (value, why) in [
                (json!(null), missing.as_str()),
                (json!(7), &missing),
                (json!("!"), "isn't base64url"),
                (json!(""), "fields don't match"),
                (json!("AQAC"), "fields don't match"),
            ] {
                let text = changed(jwk, name, value);
                refused(SigningKey::jwk(text.as_str()), &text, why);
            }
        }
    }
}

#[test]
fn a_secret_that_is_too_short_for_hs256_is_an_error_at_once() {
    for length in [0, 1, 31] {
        let secret = "x".repeat(length);
        refused(SigningKey::hmac(secret.as_str()), &secret, "32 bytes");
    }
    assert!(SigningKey::hmac("x".repeat(32)).is_ok());
}

#[tokio::test]
async fn a_key_in_a_file_is_read_for_each_signature() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    // A file that doesn't exist yet is no error until the key is used.
    let key = SigningKey::jwk(SecretSource::file(&file)).unwrap();
    let error = sign(key.clone()).await.unwrap_err();
    assert!(error.is_config(), "{error:?}");
    assert!(error.to_string().contains("/key can't be read"), "{error}");

    for (text, algorithm, key_id) in [
        (EC_JWK, Algorithm::ES256, "ec-1"),
        (RSA_JWK, Algorithm::RS256, "rsa-1"),
    ] {
        fs::write(&file, text).unwrap();
        let data = verified(&sign(key.clone()).await.unwrap(), algorithm, "you");
        assert_eq!(data.header.kid.as_deref(), Some(key_id));
    }

    fs::write(&file, EC_PUBLIC).unwrap();
    let error = sign(key).await.unwrap_err();
    assert!(error.is_config(), "{error:?}");
    assert!(error.to_string().contains("/key, isn't a JWK"), "{error}");
}

#[test]
fn nothing_shows_a_key() {
    let key = SigningKey::jwk(EC_JWK).unwrap();
    let jwt = SignedJwt::new(key.clone()).claim("pin", "planted").unwrap();
    let shown = format!("{key:?} {key:#?} {jwt:?} {jwt:#?}");
    let d: Value = serde_json::from_str(EC_JWK).unwrap();
    assert!(!shown.contains(d["d"].as_str().unwrap()), "{shown}");
    assert!(!shown.contains("planted"), "{shown}");
    assert!(
        shown.contains("[redacted]") && shown.contains("pin"),
        "{shown}"
    );
}
