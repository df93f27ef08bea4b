//! A client of an authorization server (RFC 6749 §2), which requests tokens for all grants.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "fleet")]
use secrecy::SecretString;

use super::client_auth::ClientAuth;
use super::endpoint::TokenEndpoint;
use super::params::BodyFormat;
#[cfg(feature = "fleet")]
use super::params::Params;
use crate::error::Error;
#[cfg(feature = "jwt")]
use crate::error::Kind;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::token_response::TokenResponse;
use crate::http_client::token_response_format::TokenResponseFormat;
use crate::http_client::transport::{DynTransport, Transport};
#[cfg(feature = "dpop")]
use crate::oauth2::dpop::dpop_key::DpopKey;
#[cfg(feature = "dpop")]
use crate::oauth2::dpop::proof::Dpop;
#[cfg(feature = "jwt")]
use crate::oauth2::jose::signed_jwt::SignedJwt;
#[cfg(feature = "jwt")]
use crate::oauth2::jose::signing_key::SigningKey;
use crate::source::secret_source::SecretSource;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
#[cfg(feature = "fleet")]
use crate::source::token_source::unbound;
use crate::token::issued_token::Token;

/// A client of an authorization server (RFC 6749 §2): its token endpoint, its authentication, and
/// its request settings.
///
/// | setting | default |
/// | --- | --- |
/// | client authentication | in the body (`client_secret_post`); the last call of [`basic_auth`](Self::basic_auth), [`client_assertion`](Self::client_assertion), `private_key_jwt` or `secret_jwt` (feature `jwt`) changes this |
/// | body | a form; [`json`](Self::json) |
/// | [`response_format`](Self::response_format) | the format of RFC 6749 §5 |
/// | [`timeout`](Self::timeout) of each request | 10 s |
/// | [`revoke_at`](Self::revoke_at) | none: no token is revoked |
/// | [`transport`](Self::transport) | a reqwest client (feature `reqwest`), made for the first request |
///
/// The address must be `https`, or `http` on a loopback host. [`EndpointUrl::danger_allow_http`]
/// allows other `http` addresses. The client doesn't follow redirects, and it rejects a response
/// longer than 64 KiB. Each fetch sends one request: the client doesn't retry or cache.
///
/// The `url` is a `&str`, a `String` or an [`EndpointUrl`]. [`EndpointUrl::from_issuer`] finds the
/// address in the issuer's metadata. The secret is a string, or a [`SecretSource`] that is read for
/// each fetch.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::{Client, RefreshToken};
///
/// # fn example(id: String, secret: String, token: String) -> Result<(), tower_auth::Error> {
/// let client = Client::new("https://id.example.com/oauth/token", id, secret)?.basic_auth();
/// let source = RefreshToken::new(client, token);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) endpoint: TokenEndpoint,
}

impl Client {
    /// Creates a confidential client: a client with an id and a secret.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext, or if the id
    /// or the secret is empty.
    pub fn new<U>(
        url: U,
        id: impl Into<String>,
        secret: impl Into<SecretSource>,
    ) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let client = ClientAuth::confidential(id.into(), secret.into())?;
        Ok(Self::build(url.try_into()?, client))
    }

    /// Creates a public client (RFC 6749 §2.1): a client with an id but no secret. An app on a
    /// user's machine is such a client.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext, or if the id
    /// is empty.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::{Client, DeviceAuthorization};
    ///
    /// let client = Client::public("https://id.example.com/oauth/token", "my-app")?;
    /// let login = DeviceAuthorization::new(client, "https://id.example.com/oauth/device/code")?;
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn public<U>(url: U, id: impl Into<String>) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let client = ClientAuth::public(id.into())?;
        Ok(Self::build(url.try_into()?, client))
    }

    /// Creates a client that doesn't identify itself. Use this client if the grant identifies the
    /// caller. The assertion of a service account is such a grant (RFC 7521 §4.1).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::oauth2::{Client, JwtBearer};
    ///
    /// let client = Client::anonymous("https://id.example.com/token")?;
    /// let assertion = SecretSource::file("/var/run/secrets/tokens/id");
    /// let source = JwtBearer::new(client, assertion);
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn anonymous<U>(url: U) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        Ok(Self::build(url.try_into()?, ClientAuth::anonymous()))
    }

    fn build(url: EndpointUrl, client: ClientAuth) -> Self {
        Self {
            endpoint: TokenEndpoint::new(url, client),
        }
    }

    /// Sends all requests of this client with `transport`, such as your own HTTP client.
    ///
    /// The default, with the feature `reqwest`, is a [`reqwest`](https://docs.rs/reqwest) client
    /// over rustls. The `reqwest` client uses the proxy settings of the environment. Exception: a
    /// request to loopback or to a link-local address never goes through a proxy. The first
    /// request creates this client, and all clones share it. This creation can fail, for example if
    /// there are no root certificates. The fetch then fails with [`is_config`](Error::is_config).
    /// Without the feature and without a transport, every fetch fails with the same error.
    ///
    /// # Example
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use tower_auth::oauth2::{Client, ClientCredentials};
    /// use tower_auth::{Reason, TokenSource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let server = tower::service_fn(|_request: Request<Full<Bytes>>| async {
    ///     let reply = r#"{"access_token":"issued","token_type":"Bearer","expires_in":3600}"#;
    ///     Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(reply)))
    /// });
    /// let client = Client::new("https://id.example.com/token", "job", "secret")?
    ///     .transport(server);
    /// let source = ClientCredentials::with_client(client);
    /// assert_eq!(source.fetch(Reason::First).await?.secret(), "issued");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.endpoint.http.transport = DynTransport::new(transport);
        self
    }

    /// Sends the id and the secret as basic authentication (`client_secret_basic`, RFC 6749 §2.3.1)
    /// instead of in the body. A public client sends an empty password.
    ///
    /// Every server must support basic authentication. Many servers accept only the method with
    /// which the client is registered. The body is the default here, because the body is also
    /// Auth0's default.
    #[must_use]
    pub fn basic_auth(mut self) -> Self {
        self.endpoint.client.use_basic();
        self
    }

    /// Sends an assertion instead of a secret (RFC 7521 §4.2, RFC 7523 §2.2). An assertion is a JWT
    /// of an issuer that the authorization server trusts. The client reads the assertion again for
    /// each request, so you can rotate a file. For example, a Kubernetes pod can send its projected
    /// service account token instead of a client secret.
    ///
    /// With this method, the client sends no secret, so call it on a public client. A `SignedJwt`
    /// (feature `jwt`) is also an assertion, with an audience of your choice.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::oauth2::{Client, ClientCredentials};
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let token = SecretSource::file("/var/run/secrets/tokens/id");
    /// let client = Client::public("https://id.example.com/token", "job")?
    ///     .client_assertion(token);
    /// let source = ClientCredentials::with_client(client).scope("read");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn client_assertion(mut self, assertion: impl Into<SecretSource>) -> Self {
        self.endpoint.client.use_assertion(assertion.into());
        self
    }

    /// Authenticates the client with its own key (`private_key_jwt`, RFC 7523 §2.2, OpenID Connect
    /// Core §9). Each request has a new JWT, valid for 1 minute. The `iss` and the `sub` of the JWT
    /// are the client id. The `typ` is `JWT`, unless [`assertion_typ`](Self::assertion_typ) changes it.
    ///
    /// The `aud` is a single string. If the request's endpoint or the token endpoint was created
    /// from an issuer, the `aud` is the `issuer` in the metadata. Otherwise, the `aud` is the
    /// address of the token endpoint. Servers that follow draft-ietf-oauth-rfc7523bis accept only
    /// the issuer.
    ///
    /// With this method, the client sends no secret, so call it on a public client. If the server
    /// wants another audience, use
    /// `client_assertion(SignedJwt::new(key).issuer(id).subject(id).audience(audience))`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for an anonymous client, which has no id.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::oauth2::{Client, JwsAlgorithm, SigningKey};
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let file = SecretSource::file("/run/secrets/key.pem");
    /// let key = SigningKey::pem(JwsAlgorithm::ES256, file)?;
    /// let client = Client::public("https://id.example.com/token", "job")?.private_key_jwt(key)?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "jwt")]
    pub fn private_key_jwt(mut self, key: SigningKey) -> Result<Self, Error> {
        let Some(id) = self.id() else {
            let message = "an anonymous client has no id to sign for; use `Client::public`";
            return Err(Error::new(Kind::Config, message));
        };
        let jwt = SignedJwt::new(key).issuer(id).subject(id);
        self.endpoint.client.use_signed_assertion(jwt);
        Ok(self)
    }

    /// Sets the type of the client assertions that `private_key_jwt` and `secret_jwt` sign (`typ`,
    /// RFC 7515 §4.1.9). Default: `JWT`.
    ///
    /// draft-ietf-oauth-rfc7523bis §4 recommends the type `client-authentication+jwt`. Some servers
    /// already require this type, but others accept only `JWT`. You can call this method before or
    /// after the method that chooses the client authentication. For an assertion of your own, call
    /// [`SignedJwt::typ`] instead.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::{Client, EndpointUrl, SigningKey};
    ///
    /// # fn example(key: SigningKey) -> Result<(), tower_auth::Error> {
    /// let issuer = EndpointUrl::from_issuer("https://id.example.com")?;
    /// let client = Client::public(issuer, "job")?
    ///     .private_key_jwt(key)?
    ///     .assertion_typ("client-authentication+jwt");
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "jwt")]
    #[must_use]
    pub fn assertion_typ(mut self, typ: impl Into<String>) -> Self {
        self.endpoint.client.set_assertion_typ(typ.into());
        self
    }

    /// Authenticates the client with its secret, without sending the secret (`client_secret_jwt`,
    /// RFC 7523 §2.2, OpenID Connect Core §9). The JWT is the same as for `private_key_jwt`, but
    /// the secret signs the JWT (HS256).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the client has no secret, or if a fixed secret has fewer
    /// than 32 bytes (RFC 7518 §3.2).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::oauth2::Client;
    ///
    /// let secret = SecretSource::file("/run/secrets/client-secret");
    /// let client = Client::new("https://id.example.com/token", "job", secret)?.secret_jwt()?;
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    #[cfg(feature = "jwt")]
    pub fn secret_jwt(self) -> Result<Self, Error> {
        let Some(secret) = self.endpoint.client.secret() else {
            let message = "a client without a secret can't sign with it; use `Client::new`";
            return Err(Error::new(Kind::Config, message));
        };
        let key = SigningKey::hmac(secret.clone())?;
        self.private_key_jwt(key)
    }

    /// Sends the parameters as a JSON object instead of a form. No RFC defines this format, but
    /// Auth0 accepts it.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.endpoint.format = BodyFormat::Json;
        self
    }

    /// Sets the format of the token endpoint's responses, for every grant of this client. The table
    /// of [`TokenResponseFormat`] lists the settings for GitHub, Slack and Supabase. The format also
    /// applies to the refusals of the client's other endpoints.
    #[must_use]
    pub fn response_format(mut self, format: TokenResponseFormat) -> Self {
        self.endpoint.http.format = Arc::new(format);
        self
    }

    /// Binds tokens to a key (DPoP, RFC 9449), so that a stolen token is useless without the key. A
    /// proof shows that the sender has the key. Each token request, each request with the token and
    /// each replay contains a new proof. By default, tokens are bearer tokens.
    ///
    /// Servers may want a nonce in proofs. The client stores the latest nonce of each origin, from
    /// any response. If a server wants another nonce, the client sends the request once more. If
    /// the server then refuses the token, the layer can still replay the request with a new token.
    /// If a server ignores the proof and issues a bearer token, the fetch fails (§5). An
    /// authorization code is also bound to the key (`dpop_jkt`, §10).
    ///
    /// The proof contains the address of the request as the layer sees it: scheme, host and path. A
    /// request whose URI is only a path is an error. If another layer adds the scheme and the host,
    /// put that layer outside of the `AuthLayer`.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::AuthLayer;
    /// use tower_auth::oauth2::{Client, ClientCredentials, DpopKey};
    ///
    /// # fn example(id: String, secret: String) -> Result<(), tower_auth::Error> {
    /// let client = Client::new("https://id.example.com/token", id, secret)?
    ///     .dpop(DpopKey::generate()?);
    /// let source = ClientCredentials::with_client(client);
    /// let layer = AuthLayer::new(source).only_to(["https://api.example.com"])?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "dpop")]
    #[must_use]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.endpoint.dpop = Some(Dpop::new(key));
        self
    }

    /// Sets the revocation endpoint (RFC 7009 §2). [`TokenCache::close`](crate::TokenCache::close)
    /// revokes the current access token at this endpoint. By default, no token is revoked.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::TokenCache;
    /// use tower_auth::oauth2::{Client, ClientCredentials};
    ///
    /// # async fn example(id: String, secret: String) -> Result<(), tower_auth::Error> {
    /// let client = Client::new("https://id.example.com/oauth/token", id, secret)?
    ///     .revoke_at("https://id.example.com/oauth/revoke")?;
    /// let cache = TokenCache::new(ClientCredentials::with_client(client));
    /// // At shutdown, this revokes the current token:
    /// cache.close().await;
    /// # Ok(()) }
    /// ```
    pub fn revoke_at<U>(mut self, url: U) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        self.endpoint.revocation = Some(url.try_into()?);
        Ok(self)
    }

    /// Returns the client id, or `None` for an anonymous client.
    pub(crate) fn id(&self) -> Option<&str> {
        self.endpoint.client.id()
    }

    /// Returns the thumbprint of the key that tokens are bound to.
    pub(crate) fn thumbprint(&self) -> Option<&str> {
        #[cfg(feature = "dpop")]
        if let Some(dpop) = &self.endpoint.dpop {
            return Some(dpop.thumbprint());
        }
        None
    }

    /// Returns the store key for a token that `grant` requests. The key contains every value on
    /// which the token depends.
    #[cfg(feature = "fleet")]
    pub(crate) fn store_key(&self, grant: &Params<'_>) -> StoreKey {
        let key = self.endpoint.http.url.add_to_key(StoreKey::new("oauth2"));
        let key = key.with("client_id", self.id().unwrap_or_default());
        #[cfg(feature = "dpop")]
        let key = match &self.endpoint.dpop {
            Some(dpop) => key.with("dpop", dpop.thumbprint()),
            None => key,
        };
        let key = match self.endpoint.http.format.access_token_elsewhere() {
            Some(pointer) => key.with("access_token at", pointer),
            None => key,
        };
        grant.add_to_key(key)
    }

    /// Makes a token from `secret`, bound to the key with thumbprint `to`. Fails if this client has
    /// another key or no key.
    #[cfg(feature = "fleet")]
    pub(crate) fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
        #[cfg(feature = "dpop")]
        if let Some(dpop) = &self.endpoint.dpop
            && dpop.thumbprint() == to
        {
            return dpop.token(secret);
        }
        drop(secret);
        Err(unbound(to))
    }

    /// Makes the token of a response, and binds the token to this client's key, if any. `requested`
    /// is the requested scope. `assumed` is the lifetime of the token if the response specifies no
    /// lifetime.
    pub(crate) fn token(
        &self,
        response: TokenResponse,
        requested: &str,
        assumed: Duration,
    ) -> Result<Token, Error> {
        let make = |secret| self.endpoint.make_token(secret);
        response.into_token(requested, assumed, make)
    }

    /// Revokes the access token. Does nothing if there is no token or no revocation endpoint.
    pub(crate) async fn revoke(&self, token: Option<Token>) -> Result<(), Error> {
        match token {
            Some(token) => self.endpoint.revoke(token.secret(), "access_token").await,
            None => Ok(()),
        }
    }

    /// Sets the timeout of each request, from connecting to the last byte of the response. Default:
    /// 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.endpoint.http.timeout = timeout;
        self
    }
}
