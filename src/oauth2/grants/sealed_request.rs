//! Seals an authorization request, so that a cookie or a session can keep it during the login.
//!
//! ```text
//!  base64url ( sealed by a keyring, for this purpose ( version │ JSON: when, and what the callback needs ) )
//! ```

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::authorization_request::AuthorizationRequest;
use super::authorization_response::ExpectedIssuer;
use crate::error::{Error, Kind};
use crate::fleet::keyring::{Keyring, OpenError, Sealing};
use crate::token::json_reader;
use crate::token::secret_json;

/// The purpose is authenticated with the sealed bytes, so that a fleet's sealed token can't be
/// opened as a request. A token has another purpose: the base64url text of a
/// [`StoreKey`](crate::fleet::StoreKey).
const PURPOSE: &str = "authorization request";

const VERSION: u8 = 1;

/// The longest lifetime that RFC 6749 §4.1.2 recommends for a code.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// The maximum time by which the clock of the sealing process may be ahead.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(60);

/// The maximum length of a sealed text. Browsers store cookies of up to 4,096 bytes, including the
/// name and the attributes (RFC 6265 §6.1).
const LONGEST: usize = 3_840;

/// The fields of a request that the callback needs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedFields<'a> {
    /// The time of sealing, in milliseconds since the Unix epoch.
    sealed_at: u64,
    #[serde(borrow)]
    redirect_uri: Cow<'a, str>,
    state: &'a str,
    verifier: &'a str,
    issuer: Cow<'a, ExpectedIssuer>,
}

/// Keeps a request between two HTTP requests, which may reach different processes.
impl AuthorizationRequest {
    /// Seals the parts that the callback needs: `state`, the code verifier, the redirect URI and
    /// the issuer. Also seals the current time. The first key of the ring encrypts the text
    /// (XChaCha20-Poly1305).
    ///
    /// The result is base64url without padding, shorter than 4,096 bytes, and needs no encoding in
    /// a cookie. Use a cookie with the prefix `__Host-` and the attributes `Secure`, `HttpOnly`,
    /// `SameSite=Lax` and `Path=/`. Then only the browser that began a login can finish the login.
    /// You can also store the text in a session on the server.
    /// [`docs::web_app`](crate::docs::web_app) shows the handlers.
    ///
    /// # Errors
    ///
    /// - [`is_config`](Error::is_config) if the text is too long for a cookie. Then shorten the
    ///   redirect URI, the issuer or the key's name.
    /// - [`is_source`](Error::is_source) if the system has no random bytes.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::fleet::Keyring;
    /// use tower_auth::oauth2::{AuthorizationCode, AuthorizationRequest, RefreshToken};
    ///
    /// # async fn example(login: AuthorizationCode, key: String) -> Result<RefreshToken, tower_auth::Error> {
    /// let keys = Keyring::new("2026-11", key)?;
    /// let request = login.begin("https://app.example.com/callback").await?;
    /// let (location, cookie) = (request.url().to_owned(), request.seal(&keys)?);
    ///
    /// // The redirect may reach another process.
    /// let target = "/callback?code=…&state=…";
    /// let request = AuthorizationRequest::open(&keys, &cookie)?;
    /// let response = request.read(target)?;
    /// let source = login.finish(request, response).await?;
    /// # Ok(source) }
    /// ```
    pub fn seal(&self, keys: &Keyring) -> Result<String, Error> {
        self.seal_at(keys, SystemTime::now())
    }

    /// Opens a request that was sealed at most 10 minutes ago. Tries all keys of the ring.
    ///
    /// The same text can be opened repeatedly until it is too old. A repeated callback fails at
    /// [`finish`](crate::oauth2::AuthorizationCode::finish), because the server accepts a code only
    /// once.
    ///
    /// # Errors
    ///
    /// [`is_reply`](Error::is_reply) in these cases:
    ///
    /// - The text is too old, or was cut or changed.
    /// - The text was sealed with another key or for another purpose.
    /// - Another version of this crate sealed the text.
    ///
    /// After an error, begin the login again.
    ///
    /// # Example
    ///
    /// The handler of the callback:
    ///
    /// ```
    /// use tower_auth::Error;
    /// use tower_auth::fleet::Keyring;
    /// use tower_auth::oauth2::{AuthorizationCode, AuthorizationRequest, RefreshToken};
    ///
    /// async fn finish(
    ///     login: &AuthorizationCode,
    ///     keys: &Keyring,
    ///     cookie: &str,
    ///     target: &str,
    /// ) -> Result<RefreshToken, Error> {
    ///     let request = AuthorizationRequest::open(keys, cookie)?;
    ///     let response = request.read(target)?;
    ///     login.finish(request, response).await
    /// }
    /// ```
    pub fn open(keys: &Keyring, sealed: &str) -> Result<Self, Error> {
        Self::open_within(keys, sealed, MAX_AGE)
    }

    /// Does the same as [`open`](Self::open), with a maximum age of your choice.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`open`](Self::open).
    ///
    /// # Example
    ///
    /// A server where the login of a new user may take an hour:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_auth::Error;
    /// use tower_auth::fleet::Keyring;
    /// use tower_auth::oauth2::AuthorizationRequest;
    ///
    /// fn open(keys: &Keyring, cookie: &str) -> Result<AuthorizationRequest, Error> {
    ///     AuthorizationRequest::open_within(keys, cookie, Duration::from_secs(3600))
    /// }
    /// ```
    pub fn open_within(keys: &Keyring, sealed: &str, max_age: Duration) -> Result<Self, Error> {
        Self::open_at(keys, sealed, max_age, SystemTime::now())
    }

    fn seal_at(&self, keys: &Keyring, now: SystemTime) -> Result<String, Error> {
        let fields = SealedFields {
            sealed_at: millis(now),
            redirect_uri: self.redirect_uri.as_str().into(),
            state: self.state.expose_secret(),
            verifier: self.verifier.expose_secret(),
            issuer: Cow::Borrowed(&self.issuer),
        };
        let json = secret_json::encode(&fields)
            .map_err(|_| Error::new(Kind::Config, "the authorization request can't be written"))?;
        let bytes = Zeroizing::new([&[VERSION], json.as_slice()].concat());
        let Some(sealed) = Sealing::Sealed(keys.clone()).seal(PURPOSE, &bytes) else {
            let message = "the operating system has no random numbers to give";
            return Err(Error::new(Kind::Source, message));
        };
        let sealed = URL_SAFE_NO_PAD.encode(sealed);
        if sealed.len() > LONGEST {
            let message = format!(
                "the sealed authorization request has {} bytes, more than the {LONGEST} that fit in a \
                 cookie; shorten the redirect URI, the issuer or the name of the key",
                sealed.len()
            );
            return Err(Error::new(Kind::Config, message));
        }
        Ok(sealed)
    }

    fn open_at(
        keys: &Keyring,
        sealed: &str,
        max_age: Duration,
        now: SystemTime,
    ) -> Result<Self, Error> {
        if sealed.len() > LONGEST {
            return Err(unusable("is longer than any that this crate seals"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(sealed);
        let bytes = bytes.map_err(|_| unusable("was cut or changed: it isn't base64url"))?;
        let opened = Sealing::Sealed(keys.clone()).open(PURPOSE, &bytes);
        let opened = opened.map_err(|error| unusable(reason(error)))?;
        let Some((&VERSION, json)) = opened.split_first() else {
            return Err(unusable(reason(OpenError::UnknownVersion)));
        };
        let json = secret_json::parse(json);
        let fields: Option<SealedFields<'_>> = json.as_ref().and_then(json_reader::read);
        let fields = fields.ok_or_else(|| unusable(reason(OpenError::UnknownVersion)))?;
        check_age(fields.sealed_at, max_age, now)?;
        Ok(Self {
            url: SecretString::default(),
            redirect_uri: fields.redirect_uri.into_owned(),
            state: SecretString::from(fields.state),
            verifier: SecretString::from(fields.verifier),
            issuer: fields.issuer.into_owned(),
        })
    }
}

fn check_age(sealed_at: u64, max_age: Duration, now: SystemTime) -> Result<(), Error> {
    let sealed_at = UNIX_EPOCH.checked_add(Duration::from_millis(sealed_at));
    let sealed_at = sealed_at.ok_or_else(|| unusable("has a time that no clock shows"))?;
    match now.duration_since(sealed_at) {
        Ok(age) if age <= max_age => Ok(()),
        Ok(_) => Err(unusable(&format!("is older than {max_age:?}"))),
        Err(ahead) if ahead.duration() <= CLOCK_DIFFERENCE => Ok(()),
        Err(_) => Err(unusable(
            "was sealed in the future: the clocks of two processes differ, or this one was set back",
        )),
    }
}

fn reason(error: OpenError) -> &'static str {
    match error {
        OpenError::Corrupt => {
            "was cut or changed, or was sealed with another key or for another purpose"
        }
        OpenError::UnknownKey => "was sealed with a key that isn't on the keyring",
        OpenError::UnknownVersion => "was sealed by another version of this crate",
        OpenError::WrongKind => "isn't sealed",
    }
}

fn unusable(what: &str) -> Error {
    let message = format!("the sealed authorization request {what}; begin the login again");
    Error::new(Kind::Reply, message)
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// These are unit tests because a test outside the crate can't set the wall clock.
#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Result<Keyring, Error> {
        Keyring::new("2026-11", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    }

    fn request() -> AuthorizationRequest {
        AuthorizationRequest {
            url: SecretString::default(),
            redirect_uri: String::from("https://app.example.com/callback"),
            state: SecretString::from("state"),
            verifier: SecretString::from("verifier"),
            issuer: ExpectedIssuer::Unknown,
        }
    }

    /// Seals a request at `then` and opens it at `now`, both in seconds since the Unix epoch.
    fn open(then: u64, now: u64, max_age: u64) -> Result<AuthorizationRequest, Error> {
        let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let keys = keys()?;
        let sealed = request().seal_at(&keys, time(then))?;
        let max_age = Duration::from_secs(max_age);
        AuthorizationRequest::open_at(&keys, &sealed, max_age, time(now))
    }

    fn message(opened: Result<AuthorizationRequest, Error>) -> String {
        opened.map_or_else(|error| error.to_string(), |_| String::from("opened"))
    }

    #[test]
    fn a_request_that_is_too_old_is_refused() {
        assert_eq!(message(open(1_000, 1_000, 600)), "opened");
        assert_eq!(message(open(1_000, 1_600, 600)), "opened");
        let error = message(open(1_000, 1_601, 600));
        assert!(error.contains("is older than 600s"), "{error}");
        assert_eq!(message(open(1_000, 1_601, 1_000)), "opened");
    }

    #[test]
    fn a_clock_that_was_set_back_by_more_than_a_minute_is_noticed() {
        assert_eq!(message(open(1_060, 1_000, 600)), "opened");
        let error = message(open(1_061, 1_000, 600));
        assert!(error.contains("was sealed in the future"), "{error}");
        // A longer maximum age makes no difference.
        let error = message(open(1_061, 1_000, u64::MAX));
        assert!(error.contains("was sealed in the future"), "{error}");
    }

    #[test]
    fn a_request_of_another_version_is_refused() -> Result<(), Error> {
        let keys = keys()?;
        let seal = |bytes: &[u8]| Sealing::Sealed(keys.clone()).seal(PURPOSE, bytes);
        let whole = format!(
            r#"{{"sealed_at":0,"redirect_uri":"r","state":"s","verifier":"v","issuer":"{}"}}"#,
            "Unknown"
        );
        let open = |bytes: &[u8]| {
            let sealed = URL_SAFE_NO_PAD.encode(seal(bytes).unwrap_or_default());
            let opened = AuthorizationRequest::open_at(&keys, &sealed, Duration::MAX, UNIX_EPOCH);
            message(opened)
        };
        assert_eq!(open(format!("\u{1}{whole}").as_bytes()), "opened");
        for other in [
            format!("\u{2}{whole}"),
            whole.clone(),
            format!("\u{1}{}", whole.replace("state", "stat")),
            String::from("\u{1}"),
            String::new(),
        ] {
            let error = open(other.as_bytes());
            assert!(error.contains("another version"), "{other:?}: {error}");
        }
        Ok(())
    }
}
