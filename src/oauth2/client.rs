//! The client as the authorization server knows it (RFC 6749 §2): what every grant is asked for with.

use std::fmt;
use std::time::Duration;

use super::client_auth::ClientAuth;
use super::endpoint::TokenEndpoint;
use super::params::Format;
use super::transport::{DynTransport, Transport};
use super::url::EndpointUrl;
use crate::error::Error;
use crate::secret::SecretSource;
use crate::token::Token;

/// A client registered at an authorization server (RFC 6749 §2): where it asks for tokens, as whom,
/// and how.
///
/// | setting | default |
/// | --- | --- |
/// | client authentication | in the body (`client_secret_post`); [`basic_auth`](Self::basic_auth) |
/// | body | a form; [`json`](Self::json) |
/// | [`timeout`](Self::timeout) of the whole exchange | 10 s |
/// | [`revoke_at`](Self::revoke_at) | nowhere |
///
/// The address is `https`, or `http` to loopback, which is checked at once; [`EndpointUrl`] has the
/// way around it. Redirects are not followed, and an answer longer than 64 KiB is refused. Each
/// fetch is one request: there is no retry here, and no cache.
///
/// The url is a `&str`, a `String` or a [`EndpointUrl`]; the secret is a text, or a [`SecretSource`]
/// that is read for each fetch.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::{Client, RefreshToken};
///
/// # fn example(id: String, secret: String, token: String) -> Result<(), tower_auth::Error> {
/// # #[cfg(feature = "reqwest")] {
/// let client = Client::new("https://id.example.com/oauth/token", id, secret)?.basic_auth();
/// let source = RefreshToken::new(client, token);
/// # }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) endpoint: TokenEndpoint,
    /// What it is called where a browser is sent; empty if it doesn't say who it is.
    pub(crate) id: String,
}

impl Client {
    /// A confidential client, over a [`reqwest`] client of its own: over rustls, without redirects,
    /// and through the proxy that the environment names.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't be used or is cleartext, if the id or
    /// the secret is empty, or if no HTTP client can be made, for want of root certificates for
    /// one.
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn new<U>(
        url: U,
        id: impl Into<String>,
        secret: impl Into<SecretSource>,
    ) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let id = id.into();
        let client = ClientAuth::confidential(id.clone(), secret.into())?;
        let url = url.try_into()?;
        Ok(Self::build(url, client, DynTransport::reqwest()?).named(id))
    }

    /// A public client (RFC 6749 §2.1), which has an id but no secret: an app on a user's machine.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn public<U>(url: U, id: impl Into<String>) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let id = id.into();
        let client = ClientAuth::public(id.clone())?;
        let url = url.try_into()?;
        Ok(Self::build(url, client, DynTransport::reqwest()?).named(id))
    }

    /// A confidential client, over an HTTP client of your own.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't be used or is cleartext, or if the id
    /// or the secret is empty.
    pub fn with_transport<U>(
        url: U,
        id: impl Into<String>,
        secret: impl Into<SecretSource>,
        transport: impl Transport,
    ) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let id = id.into();
        let client = ClientAuth::confidential(id.clone(), secret.into())?;
        let url = url.try_into()?;
        Ok(Self::build(url, client, DynTransport::new(transport)).named(id))
    }

    /// A public client, over an HTTP client of your own.
    ///
    /// # Errors
    ///
    /// As [`with_transport`](Self::with_transport).
    pub fn public_with_transport<U>(
        url: U,
        id: impl Into<String>,
        transport: impl Transport,
    ) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let id = id.into();
        let client = ClientAuth::public(id.clone())?;
        let url = url.try_into()?;
        Ok(Self::build(url, client, DynTransport::new(transport)).named(id))
    }

    /// A client that doesn't say who it is, over a [`reqwest`] client of its own: for grants that say
    /// it all, such as the assertion of a service account (RFC 7521 §4.1).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't be used or is cleartext, or if no HTTP
    /// client can be made.
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn anonymous<U>(url: U) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let url = url.try_into()?;
        Ok(Self::build(
            url,
            ClientAuth::anonymous(),
            DynTransport::reqwest()?,
        ))
    }

    /// A client that doesn't say who it is, over an HTTP client of your own.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't be used or is cleartext.
    pub fn anonymous_with_transport<U>(url: U, transport: impl Transport) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let url = url.try_into()?;
        Ok(Self::build(
            url,
            ClientAuth::anonymous(),
            DynTransport::new(transport),
        ))
    }

    fn build(url: EndpointUrl, client: ClientAuth, transport: DynTransport) -> Self {
        Self {
            endpoint: TokenEndpoint::new(url, client, transport),
            id: String::new(),
        }
    }

    fn named(self, id: String) -> Self {
        Self { id, ..self }
    }

    /// Sends id and secret as basic authentication (`client_secret_basic`, RFC 6749 §2.3.1)
    /// instead of in the body. A public client has an empty password.
    ///
    /// Every server must support this, yet many allow a client only the one method it was
    /// registered for. Auth0 registers for the body unless told otherwise, so that is the default.
    #[must_use]
    pub fn basic_auth(mut self) -> Self {
        self.endpoint.client.use_basic();
        self
    }

    /// Sends the parameters as a JSON object instead of a form, for servers such as Auth0 that
    /// take it. No RFC has this.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.endpoint.format = Format::Json;
        self
    }

    /// Where tokens are revoked (RFC 7009 §2). When the cache is
    /// [closed](crate::TokenCache::close), the access token in hand is; default: none is.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't be used or is cleartext.
    pub fn revoke_at<U>(mut self, url: U) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        self.endpoint.revocation = Some(url.try_into()?);
        Ok(self)
    }

    /// Takes the access token back, if there is one and it is known where.
    pub(crate) async fn revoke(&self, token: Option<Token>) -> Result<(), Error> {
        match token {
            Some(token) => self.endpoint.revoke(token.secret(), "access_token").await,
            None => Ok(()),
        }
    }

    /// Bounds the whole exchange, from connecting to the last byte of the answer; default 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.endpoint.exchange.timeout = timeout;
        self
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.endpoint)
            .finish()
    }
}
