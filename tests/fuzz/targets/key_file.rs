//! A private key in a file. The first line of the input is its kind, and the rest is its text.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use secrecy::ExposeSecret;
use tower_auth::fleet::Keyring;
use tower_auth::oauth2::{DpopKey, JwsAlgorithm, SignedJwt, SigningKey};
use tower_auth::{Error, SecretSource};
use tower_auth_fuzz::run;

/// The words of the crate's own errors are shorter.
const SHORTEST_SECRET: usize = 24;

fuzz_target!(|data: &str| -> Corpus {
    let Some((kind, text)) = data.split_once('\n') else {
        return Corpus::Reject;
    };
    let pem = |algorithm| SigningKey::pem(algorithm, text).map(sign);
    let read = match kind {
        "RS256" => pem(JwsAlgorithm::RS256),
        "PS256" => pem(JwsAlgorithm::PS256),
        "ES256" => pem(JwsAlgorithm::ES256),
        "EdDSA" => pem(JwsAlgorithm::EdDSA),
        "jwk" => SigningKey::jwk(text).map(sign),
        "hmac" => SigningKey::hmac(text).map(sign),
        "ring" => Keyring::new("2026-11", text).map(|ring| {
            assert_eq!(format!("{ring:?}"), r#"["2026-11"]"#);
        }),
        "dpop" => DpopKey::from_pem(text).map(|key| {
            let written = key.to_pem().unwrap();
            let again = DpopKey::from_pem(written).unwrap();
            assert_eq!(again.thumbprint(), key.thumbprint());
        }),
        _ => return Corpus::Reject,
    };
    if let Err(error) = read {
        shows_no_part(&error, text);
    }
    Corpus::Keep
});

/// A key that was read can sign.
fn sign(key: SigningKey) {
    let jwt = SecretSource::from(SignedJwt::new(key).issuer("me").audience("you"));
    let jwt = run(jwt.read()).unwrap();
    let parts: Vec<_> = jwt.expose_secret().split('.').collect();
    let is_base64url = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    assert!(parts.len() == 3 && parts.iter().all(is_base64url));
}

fn shows_no_part(error: &Error, text: &str) {
    let shown = format!("{error} {error:?}");
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    let words = text.split(|c| !is_letter(c));
    for word in words.filter(|word| word.len() >= SHORTEST_SECRET) {
        let start = &word[..SHORTEST_SECRET];
        assert!(!shown.contains(start), "{shown}");
    }
}
