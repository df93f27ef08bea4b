//! The authorization code grant (RFC 6749 §4.1) with PKCE (RFC 7636): a user logs in with a
//! browser.

use std::fmt;
use std::sync::Arc;

use http::Uri;
use secrecy::{ExposeSecret, SecretString};

use super::authorization_request::AuthorizationRequest;
use super::authorization_response::{AuthorizationResponse, ExpectedIssuer};
use super::refresh_store::RefreshTokenStore;
use super::refresh_token::RefreshToken;
use super::token_params::{Reserved, token_param_setters};
use super::user_login::UserLogin;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_kind::EndpointKind;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;

/// Names that [`AuthorizationCode::param`] rejects.
const RESERVED: Reserved = &[
    ("response_type", "it is always `code`"),
    (
        "response_mode",
        "the response is always read from the query",
    ),
    ("client_id", "the `Client` sets it"),
    ("client_secret", "it never goes through a browser"),
    ("client_assertion", "it never goes through a browser"),
    ("redirect_uri", "pass it to `.begin(…)`"),
    ("state", "it is random for each request"),
    ("code_challenge", "it is random for each request"),
    ("code_challenge_method", "it is always `S256`"),
    ("code_verifier", "it never goes through a browser"),
    ("scope", "use `.scope(…)`"),
    ("audience", "use `.audience(…)`"),
    ("resource", "use `.resource(…)`"),
    ("login_hint", "use `.login_hint(…)`"),
    ("prompt", "use `.prompt(…)`"),
];

/// Logs a user in with a browser (RFC 6749 §4.1, RFC 7636, RFC 8252), and returns a
/// [`RefreshToken`] source.
///
/// 1. [`begin`](Self::begin) makes an [`AuthorizationRequest`]. Show the request's
///    [`url`](AuthorizationRequest::url) to the user, or open the URL in the user's browser.
/// 2. The server redirects the browser with the response. `RedirectListener` (feature
///    `redirect-listener`) waits for the redirect on loopback. A server of your own passes the
///    redirect to [`AuthorizationRequest::read`], as [`docs::web_app`](crate::docs::web_app) shows.
/// 3. [`finish`](Self::finish) exchanges the code for tokens and saves the refresh token.
///
/// The next run of the program needs no login: use [`RefreshToken::stored`] with the same store.
///
/// | setting | default |
/// | --- | --- |
/// | [`scope`](Self::scope), [`audience`](Self::audience), [`resource`](Self::resource) | none: the server decides |
/// | [`login_hint`](Self::login_hint), [`prompt`](Self::prompt) | none |
/// | [`issuer`](Self::issuer) | unknown: an `iss` in the response is ignored |
/// | [`store`](Self::store) of the refresh token | memory: a restart requires a login |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, used if neither `expires_in` nor a JWT's `exp` is present |
///
/// `state` and the code verifier each contain 256 random bits, which are new for each request. The
/// challenge method is always `S256`. Many servers issue a refresh token only if the request has
/// the scope `offline_access` or a server-specific parameter.
///
/// # Example
///
/// ```no_run
/// use tower_auth::AuthLayer;
/// use tower_auth::oauth2::{AuthorizationCode, Client};
///
/// # async fn example() -> Result<(), tower_auth::Error> {
/// # #[cfg(feature = "redirect-listener")] {
/// use tower_auth::oauth2::RedirectListener;
///
/// let client = Client::public("https://id.example.com/oauth/token", "my-app")?;
/// let login = AuthorizationCode::new(client, "https://id.example.com/authorize")?
///     .scope("offline_access read:things")
///     .issuer("https://id.example.com");
///
/// let listener = RedirectListener::bind().await?;
/// let request = login.begin(listener.redirect_uri()).await?;
/// println!("Log in at {}", request.url());
/// let response = listener.accept(&request).await?;
/// let source = login.finish(request, response).await?;
/// let layer = AuthLayer::new(source).only_to(["https://api.example.com"])?;
/// # }
/// # Ok(()) }
/// ```
pub struct AuthorizationCode {
    login: UserLogin,
    authorize_at: EndpointUrl,
    login_hint: String,
    prompt: String,
    issuer: ExpectedIssuer,
}

impl AuthorizationCode {
    /// Creates a login of `client` at the server's authorization endpoint (RFC 6749 §3.1).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext, or if the
    /// client has no id.
    pub fn new<U>(client: Client, authorize_at: U) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        Ok(Self {
            login: UserLogin::new(client, RESERVED)?,
            authorize_at: authorize_at.try_into()?,
            login_hint: String::new(),
            prompt: String::new(),
            issuer: ExpectedIssuer::Unknown,
        })
    }

    /// Sets a hint that identifies the user: an email address or a user name (OpenID Connect Core
    /// §3.1.2.1). By default, and if empty, no hint is sent.
    #[must_use]
    pub fn login_hint(mut self, hint: impl Into<String>) -> Self {
        self.login_hint = hint.into();
        self
    }

    /// Sets what the server asks the user for (OpenID Connect Core §3.1.2.1): `login`, `consent` or
    /// `select_account`. By default, and if empty, the server decides.
    #[must_use]
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = prompt.into();
        self
    }

    /// Adds any other parameter to the address that the browser opens. The parameter must not be a
    /// secret, because the address is visible.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the name is empty, is already set, or belongs to the
    /// client, `begin` or another method.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Error;
    /// use tower_auth::oauth2::AuthorizationCode;
    ///
    /// fn in_german(login: AuthorizationCode) -> Result<AuthorizationCode, Error> {
    ///     login.param("ui_locales", "de")
    /// }
    /// ```
    pub fn param(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, Error> {
        let value = SecretString::from(value.into());
        self.login.params.add_extra_param(name.into(), value)?;
        Ok(self)
    }

    /// Sets the expected issuer, as in the server's metadata (RFC 8414 §2). If the response
    /// contains an `iss`, the `iss` must be exactly this issuer. This check rejects the response of
    /// another server (RFC 9207 §2.4). A response without `iss` is accepted;
    /// [`require_issuer`](Self::require_issuer) rejects it.
    ///
    /// The default depends on the authorization endpoint. If the endpoint comes [from an
    /// issuer](EndpointUrl::from_issuer), that issuer is expected. `iss` is also required if the
    /// issuer's metadata says that responses contain `iss`. For any other endpoint, the issuer is
    /// unknown.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = ExpectedIssuer::Known(issuer.into());
        self
    }

    /// Sets the expected issuer, as [`issuer`](Self::issuer) does, and also rejects a response
    /// without `iss`. Use this setting for servers whose metadata contains
    /// `authorization_response_iss_parameter_supported`.
    #[must_use]
    pub fn require_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = ExpectedIssuer::Required(issuer.into());
        self
    }

    /// Saves the refresh token in `store`, so that the next run needs no login. Default: in memory.
    #[must_use]
    pub fn store(mut self, store: impl RefreshTokenStore) -> Self {
        self.login.store = Some(Arc::new(store));
        self
    }

    /// Begins a login. The server redirects the browser to `redirect_uri`, and must know this URI.
    /// The URI has one of these forms:
    ///
    /// - `https`
    /// - `http` on loopback (RFC 8252 §7.3)
    /// - a private-use scheme such as `com.example.app:/callback` (§7.1)
    ///
    /// # Errors
    ///
    /// - [`is_config`](Error::is_config) if the redirect URI has none of these forms.
    /// - [`is_config`](Error::is_config) if the address of the authorization endpoint already has a
    ///   parameter that the request sets.
    /// - [`is_config`](Error::is_config) if there is no HTTP client for finishing the login, or if
    ///   the server's metadata excludes `S256`.
    /// - Any error from fetching an issuer's metadata.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn begin(
        &self,
        redirect_uri: impl AsRef<str>,
    ) -> Result<AuthorizationRequest, Error> {
        // Creates the HTTP client before the user logs in. An error after the login would waste the
        // login.
        self.login.client.endpoint.http.transport.prepare()?;
        let mut params = Params::default();
        params.push("response_type", "code");
        params.push("client_id", self.login.client.id().unwrap_or_default());
        self.login.params.add_scope_to(&mut params);
        self.login.params.add_targets_to(&mut params);
        params.push("login_hint", &self.login_hint);
        params.push("prompt", &self.prompt);
        #[cfg(feature = "dpop")]
        if let Some(dpop) = &self.login.client.endpoint.dpop {
            params.push("dpop_jkt", dpop.thumbprint());
        }
        self.login.params.add_extra_params_to(&mut params);
        let (authorize_at, issuer) = self.server().await?;
        AuthorizationRequest::new(&authorize_at, params, redirect_uri.as_ref(), issuer)
    }

    /// Returns the authorization endpoint and the issuer that the response must come from.
    async fn server(&self) -> Result<(Uri, ExpectedIssuer), Error> {
        let (url, http) = (&self.authorize_at, &self.login.client.endpoint.http);
        let look = async {
            let address = http.resolve(url, EndpointKind::Authorization).await?;
            Ok((address, http.metadata(url).await?))
        };
        let (address, metadata) = http.within(look).await?;
        let Some(metadata) = metadata else {
            return Ok((address, self.issuer.clone()));
        };
        let methods = metadata.code_challenge_methods();
        if methods.is_some_and(|methods| !methods.contains(&"S256")) {
            let message = "the authorization server's metadata lists no `S256` in \
                           `code_challenge_methods_supported`, but a login requires it (PKCE)";
            return Err(Error::new(Kind::Config, message));
        }
        let name = metadata.issuer().to_owned();
        let issuer = match &self.issuer {
            ExpectedIssuer::Unknown if metadata.says_its_issuer() => ExpectedIssuer::Required(name),
            ExpectedIssuer::Unknown => ExpectedIssuer::Known(name),
            known => known.clone(),
        };
        Ok((address, issuer))
    }

    /// Exchanges the code for tokens (RFC 6749 §4.1.3). The source first returns the new access
    /// token. Later fetches refresh that token. The refresh token is saved before this method
    /// returns.
    ///
    /// If the server issued no refresh token, the store stays unchanged. The source then returns
    /// the access token until it expires. After that, [a login is
    /// required](Error::is_login_required).
    ///
    /// A code can be exchanged only once. After an error, begin the login again.
    ///
    /// # Errors
    ///
    /// - [`is_reply`](Error::is_reply) if the response belongs to another request.
    /// - [`is_invalid_grant`](Error::is_invalid_grant) if the code has expired or was used before.
    /// - [`is_source`](Error::is_source) if the refresh token can't be saved.
    /// - Any other error of the token endpoint.
    ///
    /// If the response has no usable access token, its refresh token is saved before the error is
    /// returned. A [`RefreshToken::stored`] source can then use the refresh token. In two cases,
    /// this method ignores the error and returns a source that starts with the refresh token:
    ///
    /// - The error is transient.
    /// - There is no store, and the error isn't a refusal by the server.
    ///
    /// # Cancel safety
    ///
    /// If the server has already accepted the code, its tokens are lost. Begin the login again.
    pub async fn finish(
        &self,
        request: AuthorizationRequest,
        response: AuthorizationResponse,
    ) -> Result<RefreshToken, Error> {
        if !request.is_answered_by(&response) {
            let message =
                "the authorization response belongs to another request; begin the login again";
            return Err(Error::new(Kind::Reply, message));
        }
        let mut grant = Params::default();
        grant.push("grant_type", "authorization_code");
        grant.push_secret("code", response.code().expose_secret());
        grant.push("redirect_uri", request.redirect_uri());
        grant.push_secret("code_verifier", request.verifier().expose_secret());
        self.login.exchange(grant).await
    }
}

token_param_setters!(
    AuthorizationCode,
    (login.params),
    [scope, audience, resource, assume_lifetime]
);

impl fmt::Debug for AuthorizationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationCode")
            .field("login", &self.login)
            .field("authorize_at", &self.authorize_at)
            .field("prompt", &self.prompt)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// This is a unit test because a test outside the crate can't make the default HTTP client fail.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::transport::DynTransport;

    #[tokio::test]
    async fn a_login_that_cannot_be_finished_is_not_begun() {
        let client = Client::public("https://id.example.com/token", "app").map(|mut client| {
            let make = || Err(Error::new(Kind::Config, "no root certificates"));
            client.endpoint.http.transport = DynTransport::made_by(make);
            client
        });
        let code = client.and_then(|it| AuthorizationCode::new(it, "https://id.example.com/login"));
        let begun = match &code {
            Ok(code) => code.begin("http://127.0.0.1/").await.map(drop),
            Err(error) => Err(error.clone()),
        };
        assert!(begun.is_err_and(|error| error.to_string().contains("root certificates")));
    }
}
