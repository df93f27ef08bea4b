//! The keys that tokens are bound to.

use tower_auth::oauth2::DpopKey;

use crate::support::token_server::all_text_of;

#[test]
fn a_key_survives_being_written_and_read() {
    let key = DpopKey::generate().unwrap();
    let pem = key.to_pem().unwrap();
    use secrecy::ExposeSecret;
    let text = pem.expose_secret();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert!(text.lines().all(|line| line.len() <= 64));
    let read = DpopKey::from_pem(text).unwrap();
    assert_eq!(read.thumbprint(), key.thumbprint());
    assert_ne!(DpopKey::generate().unwrap().thumbprint(), key.thumbprint());
    assert!(format!("{key:?}").contains(key.thumbprint()));
}

#[test]
fn a_key_that_will_not_do_is_told_what_is_wrong_without_a_word_of_it() {
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let p256 = rcgen::KeyPair::generate().unwrap();
    for (pem, why) in [
        (String::new(), "isn't PEM"),
        (String::from("planted-secret"), "isn't PEM"),
        (p256.public_key_pem(), "isn't PEM"),
        (rsa.serialize_pem(), "isn't PEM"),
        (p384.serialize_pem(), "P-256"),
    ] {
        let error = DpopKey::from_pem(pem.as_str()).unwrap_err();
        assert!(error.is_config());
        let text = all_text_of(&error);
        assert!(text.contains(why), "{text}");
        assert!(!text.contains("planted"));
        let secret = pem.lines().nth(1).unwrap_or("nothing to leak");
        assert!(!text.contains(secret));
    }
    assert!(DpopKey::from_pem(p256.serialize_pem()).is_ok());
}
