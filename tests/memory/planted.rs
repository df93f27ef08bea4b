//! The secrets that the tests plant, and how to recognize each of their parts in memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use tower_auth_freed::{look_for, unwatched};

/// Each secret repeats this text, so that a part of a secret contains the text too.
pub(crate) const PLANTED: &str = "Zq7vXw9K";

/// The first bytes of the private keys in `EC_PKCS8` and `ED_JWK`.
pub(crate) const EC_KEY_PART: &str = "+P7dZzqaw+7yxNn8";
pub(crate) const ED_KEY_PART: &str = "KScnbSgVTO4GFT_J";

/// The number of bytes that a search in base64 compares. Base64 encodes groups of 3 bytes.
const COMPARED: usize = 6;

/// Returns a secret with this name, as text. A URL or a form encodes some of its last characters.
pub(crate) fn text(name: &str) -> String {
    format!("{}.{name}+/~", PLANTED.repeat(3))
}

/// Returns a secret with this name.
pub(crate) fn secret(name: &str) -> SecretString {
    unwatched(|| SecretString::from(text(name)))
}

/// Looks for a part of a private key, in base64 and decoded. Call this while a watch runs.
pub(crate) fn look_for_key(part: &str) {
    unwatched(|| {
        look_for(part.as_bytes());
        let standard = part.replace('-', "+").replace('_', "/");
        look_for(&STANDARD.decode(standard).unwrap());
    });
}

/// Returns what to look for: the text, and the text in base64 from each of its characters on.
pub(crate) fn needles() -> Vec<Vec<u8>> {
    let twice = PLANTED.repeat(2);
    let in_base64 = (0..PLANTED.len()).map(|start| {
        let encoded = STANDARD.encode(&twice[start..start + COMPARED]);
        encoded.into_bytes()
    });
    std::iter::once(PLANTED.into()).chain(in_base64).collect()
}

#[test]
fn a_secret_is_found_in_each_encoding() {
    let needles = needles();
    let has = |text: &[u8]| {
        let mut needles = needles.iter();
        needles.any(|it| text.windows(it.len()).any(|part| part == it))
    };
    let secret = text("name");
    assert!(has(secret.as_bytes()));
    for before in 0..3 {
        let text = format!("{}{secret}", "-".repeat(before));
        assert!(has(STANDARD.encode(&text).as_bytes()));
        // A buffer that grew contains the first part of a secret.
        assert!(has(&text.as_bytes()[..before + 16]));
    }
    assert!(!has(STANDARD.encode("something else").as_bytes()));
}
