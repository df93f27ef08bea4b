//! What a browser is sent to an authorization server with (RFC 6749 §4.1.1), and what is kept here
//! until it comes back.

use std::fmt;

use http::Uri;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::authorization_response::{AuthorizationResponse, Redirect};
use super::pkce;
use crate::error::{Error, Kind};
use crate::oauth2::client::params::{Format, Params};
use crate::oauth2::random;
use crate::origin::is_secure;

/// A login that has begun: the address for the browser, and the secrets that its answer is known by.
///
/// [`Debug`](fmt::Debug) shows none of them. It is used up by
/// [`finish`](crate::oauth2::AuthorizationCode::finish).
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::AuthorizationCode;
///
/// # async fn example(login: AuthorizationCode) -> Result<(), tower_auth::Error> {
/// let request = login.begin("https://app.example.com/callback").await?;
/// // The browser is sent to `request.url()`, and comes back to the app's own server:
/// let target = "/callback?code=…&state=…";
/// let response = request.read(target)?;
/// let source = login.finish(request, response).await?;
/// # Ok(()) }
/// ```
pub struct AuthorizationRequest {
    /// `state` is in it.
    url: SecretString,
    redirect_uri: String,
    state: SecretString,
    verifier: SecretString,
    issuer: ExpectedIssuer,
}

/// What is known of who will answer (RFC 9207).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedIssuer {
    Unknown,
    /// It may say who it is.
    Known(String),
    /// It always says who it is.
    Required(String),
}

impl AuthorizationRequest {
    /// `params` are those that are the same for each request.
    pub(crate) fn new(
        authorize_at: &Uri,
        params: Params<'_>,
        redirect_uri: &str,
        issuer: ExpectedIssuer,
    ) -> Result<Self, Error> {
        check_redirect_uri(redirect_uri)?;
        // 256 bits: RFC 7636 §4.1 recommends them for a verifier, and RFC 6749 §10.10 asks for less.
        let (state, verifier) = (random::base64url::<32>()?, random::base64url::<32>()?);
        let challenge = pkce::challenge(verifier.expose_secret());
        let mut params = params;
        params.push("redirect_uri", redirect_uri);
        params.push("state", state.expose_secret());
        params.push("code_challenge", &challenge);
        params.push("code_challenge_method", "S256");
        let url = with_query(authorize_at, &params)?;
        Ok(Self {
            url,
            redirect_uri: redirect_uri.to_owned(),
            issuer,
            verifier,
            state,
        })
    }

    /// Where the browser is to go. It isn't secret from the person, but nobody else has a use for it.
    pub fn url(&self) -> &str {
        self.url.expose_secret()
    }

    /// Where the browser is to come back to.
    pub fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    /// Reads what the browser came back with: the whole address, its path and query, or the query
    /// alone.
    ///
    /// # Errors
    ///
    /// [`is_reply`](Error::is_reply) if it isn't the answer to this request: `state` is another, or
    /// `iss` isn't the [issuer](crate::oauth2::AuthorizationCode::issuer); if there is no code, or if a
    /// parameter stands twice. [`is_denied`](Error::is_denied) if it is an error (RFC 6749
    /// §4.1.2.1): [`is_access_denied`](Error::is_access_denied) if the person said no.
    pub fn read(&self, redirect: &str) -> Result<AuthorizationResponse, Error> {
        let redirect = Redirect::parse(redirect);
        if !self.has_state_of(&redirect) {
            let message = "what the browser came back with has another `state` than it was sent \
                           with, or none: it is not the answer to this request";
            return Err(Error::new(Kind::Reply, message));
        }
        redirect.judge(&self.issuer)
    }

    /// Whether it is the answer to this request, be it a good one or not.
    pub(crate) fn has_state_of(&self, redirect: &Redirect) -> bool {
        redirect.state().is_some_and(|state| self.is_own(state))
    }

    #[cfg(feature = "redirect-listener")]
    pub(crate) fn judge(&self, redirect: Redirect) -> Result<AuthorizationResponse, Error> {
        redirect.judge(&self.issuer)
    }

    pub(crate) fn is_answered_by(&self, response: &AuthorizationResponse) -> bool {
        self.is_own(response.state())
    }

    /// In a time that doesn't tell how much of it is right.
    fn is_own(&self, state: &SecretString) -> bool {
        let (own, other) = (self.state.expose_secret(), state.expose_secret());
        own.as_bytes().ct_eq(other.as_bytes()).into()
    }

    pub(crate) fn verifier(&self) -> &SecretString {
        &self.verifier
    }
}

/// Adds to the query that the address may have, which is kept (RFC 6749 §3.1).
fn with_query(address: &Uri, params: &Params<'_>) -> Result<SecretString, Error> {
    let before = address.query().unwrap_or_default();
    let mut names = form_urlencoded::parse(before.as_bytes()).map(|(name, _)| name);
    if let Some(name) = names.find(|name| params.has(name)) {
        let name = name.escape_debug();
        let message = format!(
            "the authorization endpoint's address has the parameter `{name}` in its query, which \
             is set here too; take it out of the address"
        );
        return Err(Error::new(Kind::Config, message));
    }
    let unwritable = || Error::new(Kind::Config, "the authorization request can't be written");
    let query = params.encode(Format::Form).ok_or_else(unwritable)?;
    let query = std::str::from_utf8(&query).map_err(|_| unwritable())?;
    let address = Zeroizing::new(address.to_string());
    let separator = match address.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    Ok(SecretString::from([&address, separator, query].concat()))
}

/// The code passes through it, so nobody but this program may be there.
fn check_redirect_uri(text: &str) -> Result<(), Error> {
    let wrong = |what: &str| {
        let message = format!(
            "the redirect URI {what}; it is `https://…`, `http://127.0.0.1:PORT/…`, or has a \
             scheme of the app's own such as `com.example.app:/…` (RFC 8252 §7)"
        );
        Err(Error::new(Kind::Config, message))
    };
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return wrong("has characters that no URI has");
    }
    if text.contains('#') {
        return wrong("has a fragment (`#`), against RFC 6749 §3.1.2");
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return wrong("is not absolute");
    };
    let is_web = ["http", "https"]
        .iter()
        .any(|web| scheme.eq_ignore_ascii_case(web));
    if !is_web {
        // A domain name in reverse (§7.1): two apps can't have the same, and no browser has one.
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        let is_own = scheme.contains('.')
            && scheme.bytes().all(is_letter)
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        return match is_own && rest.starts_with('/') {
            true => Ok(()),
            false => wrong("has a scheme that anybody may use, or no path"),
        };
    }
    let Ok(uri) = text.parse::<Uri>() else {
        return wrong("is no valid URI");
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return wrong("has a user name or password (`@`)");
    }
    if !is_secure(uri.scheme_str(), uri.host()) {
        return wrong("is cleartext to another machine, where the code could be read on the way");
    }
    Ok(())
}

impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationRequest")
            .field("redirect_uri", &self.redirect_uri)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
