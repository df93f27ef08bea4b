//! Proof key for code exchange (RFC 7636), and other texts that nobody can guess.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, Kind};

/// 256 bits in 43 characters that need no encoding: what RFC 7636 §4.1 has for a verifier, and more
/// than RFC 6749 §10.10 asks of any text that must not be guessed.
pub(crate) fn random() -> Result<SecretString, Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| {
        let message = "the operating system has no random numbers to give";
        Error::new(Kind::Source, message).with_source(error)
    })?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(*bytes)))
}

/// What is shown of a verifier in the browser (`S256`, RFC 7636 §4.2).
pub(crate) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_challenge_is_that_of_rfc_7636_appendix_b() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let expected = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert_eq!(challenge(verifier), expected);
    }

    #[test]
    fn no_two_are_the_same_and_each_is_a_verifier() -> Result<(), Error> {
        let (one, other) = (random()?, random()?);
        assert_ne!(one.expose_secret(), other.expose_secret());
        for text in [one, other] {
            let text = text.expose_secret();
            let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            assert!(text.len() == 43 && text.bytes().all(is_unreserved));
        }
        Ok(())
    }
}
