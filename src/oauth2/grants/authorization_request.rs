//! The authorization request (RFC 6749 §4.1.1), which the browser sends to the authorization
//! server.

use std::fmt;

use http::Uri;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::authorization_response::{AuthorizationResponse, ExpectedIssuer, RedirectParams};
use super::pkce;
use crate::error::{Error, Kind};
use crate::oauth2::client::params::{BodyFormat, Params};
use crate::oauth2::random;
use crate::origin::{is_secure, port_fault};

/// A login in progress: the address for the browser, and the secrets that verify the response.
///
/// [`finish`](crate::oauth2::AuthorizationCode::finish) consumes the request. [`Debug`](fmt::Debug)
/// shows no secrets. A web app must keep the request between two HTTP requests. `seal` (feature
/// `fleet`) converts the request to a text for a cookie or a session. `open` reads this text in any
/// process.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::AuthorizationCode;
///
/// # async fn example(login: AuthorizationCode) -> Result<(), tower_auth::Error> {
/// let request = login.begin("https://app.example.com/callback").await?;
/// println!("log in at {}", request.url());
/// // The server then redirects the browser to the app's own server:
/// let target = "/callback?code=…&state=…";
/// let response = request.read(target)?;
/// let source = login.finish(request, response).await?;
/// # Ok(()) }
/// ```
pub struct AuthorizationRequest {
    /// The address for the browser, which contains `state`. It is empty if the request was opened
    /// from a sealed text.
    pub(super) url: SecretString,
    pub(super) redirect_uri: String,
    pub(super) state: SecretString,
    pub(super) verifier: SecretString,
    pub(super) issuer: ExpectedIssuer,
}

impl AuthorizationRequest {
    /// Creates a request. `params` contains the parameters that are the same for all requests. This
    /// function adds the other parameters.
    pub(crate) fn new(
        authorize_at: &Uri,
        params: Params<'_>,
        redirect_uri: &str,
        issuer: ExpectedIssuer,
    ) -> Result<Self, Error> {
        check_redirect_uri(redirect_uri)?;
        // RFC 7636 §4.1 recommends 256 bits for a verifier. RFC 6749 §10.10 requires less for
        // `state`.
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

    /// Returns the address to open in the browser. Show the address only to the user who logs in.
    /// It is empty if the request was opened from a sealed text, because such a text omits the
    /// address.
    pub fn url(&self) -> &str {
        self.url.expose_secret()
    }

    /// Returns the address that the server redirects the browser to.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::AuthorizationCode;
    ///
    /// # async fn example(login: AuthorizationCode) -> Result<(), tower_auth::Error> {
    /// let request = login.begin("https://app.example.com/callback").await?;
    /// assert_eq!(request.redirect_uri(), "https://app.example.com/callback");
    /// # Ok(()) }
    /// ```
    pub fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    /// Reads the browser's redirect, given as the whole address, as path and query, or as the query
    /// alone.
    ///
    /// # Errors
    ///
    /// - [`is_reply`](Error::is_reply) if the response belongs to another request: `state` differs,
    ///   or `iss` isn't the [expected issuer](crate::oauth2::AuthorizationCode::issuer).
    /// - [`is_reply`](Error::is_reply) if the response has no code, or has a parameter twice.
    /// - [`is_denied`](Error::is_denied) for an error response (RFC 6749 §4.1.2.1). Also
    ///   [`is_access_denied`](Error::is_access_denied) if the user or the server refused the login.
    pub fn read(&self, redirect: &str) -> Result<AuthorizationResponse, Error> {
        let params = RedirectParams::parse(redirect);
        if !self.has_state_of(&params) {
            let message = "the browser's redirect has no `state` or a different one, so it is not \
                           the response to this request";
            return Err(Error::new(Kind::Reply, message));
        }
        params.verify(&self.issuer)
    }

    /// Returns whether the parameters are a response to this request: a success or an error.
    pub(crate) fn has_state_of(&self, params: &RedirectParams) -> bool {
        params.state().is_some_and(|state| self.has_state(state))
    }

    #[cfg(feature = "redirect-listener")]
    pub(crate) fn verify(&self, params: RedirectParams) -> Result<AuthorizationResponse, Error> {
        params.verify(&self.issuer)
    }

    pub(crate) fn is_answered_by(&self, response: &AuthorizationResponse) -> bool {
        self.has_state(response.state())
    }

    /// Returns whether the state matches. Compares in constant time, because the duration could
    /// reveal the expected state.
    fn has_state(&self, state: &SecretString) -> bool {
        let (own, other) = (self.state.expose_secret(), state.expose_secret());
        own.as_bytes().ct_eq(other.as_bytes()).into()
    }

    pub(crate) fn verifier(&self) -> &SecretString {
        &self.verifier
    }
}

/// Adds the parameters to the address, after the address's existing query (RFC 6749 §3.1).
fn with_query(address: &Uri, params: &Params<'_>) -> Result<SecretString, Error> {
    let before = address.query().unwrap_or_default();
    let mut names = form_urlencoded::parse(before.as_bytes()).map(|(name, _)| name);
    if let Some(name) = names.find(|name| params.has(name)) {
        let name = name.escape_debug();
        let message = format!(
            "the authorization endpoint's address has the query parameter `{name}`, which the \
             request sets too; remove it from the address"
        );
        return Err(Error::new(Kind::Config, message));
    }
    let unwritable = || Error::new(Kind::Config, "could not encode the authorization request");
    let query = params
        .encode(BodyFormat::FormUrlEncoded)
        .ok_or_else(unwritable)?;
    let query = std::str::from_utf8(&query).map_err(|_| unwritable())?;
    let address = Zeroizing::new(address.to_string());
    let separator = match address.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    Ok(SecretString::from([&address, separator, query].concat()))
}

/// Rejects an address where another program could receive the code.
fn check_redirect_uri(text: &str) -> Result<(), Error> {
    let wrong = |what: &str| {
        let message = format!(
            "the redirect URI {what}; use `https://…`, `http://127.0.0.1:PORT/…`, or a scheme \
             of the app's own, such as `com.example.app:/…` (RFC 8252 §7)"
        );
        Err(Error::new(Kind::Config, message))
    };
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return wrong("has characters that are invalid in a URI");
    }
    if text.contains('#') {
        return wrong("has a fragment (`#`), which RFC 6749 §3.1.2 forbids");
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return wrong("is not absolute");
    };
    let is_web = ["http", "https"]
        .iter()
        .any(|web| scheme.eq_ignore_ascii_case(web));
    if !is_web {
        // The scheme must be a reversed domain name (RFC 8252 §7.1). Such a scheme belongs to one
        // app, and browsers don't handle it.
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        let is_own = scheme.contains('.')
            && scheme.bytes().all(is_letter)
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        return match is_own && rest.starts_with('/') {
            true => Ok(()),
            false => wrong("has a scheme that any app may use, or has no path"),
        };
    }
    if let Some(fault) = port_fault(text) {
        return wrong(&fault);
    }
    let Ok(uri) = text.parse::<Uri>() else {
        return wrong("isn't a valid URI");
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return wrong("has a user name or password (`@`)");
    }
    if !is_secure(uri.scheme_str(), uri.host()) {
        return wrong("is cleartext to another machine, so the code could be read in transit");
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
