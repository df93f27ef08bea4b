//! Random strings that nobody can guess.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::error::{Error, Kind};

/// Returns `N` random bytes in base64url. The text needs no encoding in a URL, a form or a header.
pub(crate) fn base64url<const N: usize>() -> Result<SecretString, Error> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|error| {
        let message = "could not get random bytes from the operating system";
        Error::new(Kind::Source, message).with_source(error)
    })?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn no_two_are_the_same_and_each_is_a_verifier_of_pkce() -> Result<(), Error> {
        let (one, other) = (base64url::<32>()?, base64url::<32>()?);
        assert_ne!(one.expose_secret(), other.expose_secret());
        for text in [one, other] {
            let text = text.expose_secret();
            let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            assert!(text.len() == 43 && text.bytes().all(is_unreserved));
        }
        Ok(())
    }
}
