//! Client authentication (RFC 6749 §2.3): how the id and the secret are shown to the server, or an
//! assertion in the secret's place (RFC 7521 §4.2).

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::params::Params;
use crate::error::{Error, Kind};
use crate::source::secret_source::SecretSource;
use crate::token::header_value::sensitive;

/// Who the client is, and where in the request it says so.
#[derive(Clone)]
pub(crate) struct ClientAuth {
    /// Empty: it isn't said.
    id: String,
    /// `None`: a public client (RFC 6749 §2.1).
    secret: Option<SecretSource>,
    method: Method,
}

/// The same with what is shown as it is now: for one request.
pub(crate) struct Identity<'a> {
    id: &'a str,
    /// The secret or the assertion.
    secret: Option<SecretString>,
    method: &'a Method,
}

/// One at a time: a client must not use two for one request (RFC 6749 §2.3).
#[derive(Clone)]
enum Method {
    /// `client_secret_post`, and `none` without a secret.
    Body,
    /// `client_secret_basic`.
    Basic,
    /// An assertion for an audience (RFC 7523 §2.2): `private_key_jwt`, `client_secret_jwt`, or one
    /// that somebody else has issued.
    Assertion(Assert),
}

type Assert = Arc<dyn Fn(&str) -> SecretSource + Send + Sync>;

/// RFC 7523 §2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl ClientAuth {
    /// An empty secret is refused: it is an unset variable far more often than a client's own.
    pub(crate) fn confidential(id: String, secret: SecretSource) -> Result<Self, Error> {
        if secret.is_empty_value() {
            let message = "the client secret is empty; use a `public` constructor for a client \
                           that has none";
            return Err(Error::new(Kind::Config, message));
        }
        Self::new(id, Some(secret))
    }

    pub(crate) fn public(id: String) -> Result<Self, Error> {
        Self::new(id, None)
    }

    fn new(id: String, secret: Option<SecretSource>) -> Result<Self, Error> {
        if id.is_empty() {
            return Err(Error::new(Kind::Config, "the client id is empty"));
        }
        Ok(Self {
            id,
            secret,
            method: Method::Body,
        })
    }

    pub(crate) fn anonymous() -> Self {
        Self {
            id: String::new(),
            secret: None,
            method: Method::Body,
        }
    }

    pub(crate) fn use_basic(&mut self) {
        self.method = Method::Basic;
    }

    /// Shows in the secret's place an assertion, which is read from what `assert` makes for an
    /// audience.
    pub(crate) fn use_assertion(
        &mut self,
        assert: impl Fn(&str) -> SecretSource + Send + Sync + 'static,
    ) {
        self.method = Method::Assertion(Arc::new(assert));
    }

    /// The id, of a client that has one.
    pub(crate) fn id(&self) -> Option<&str> {
        Some(self.id.as_str()).filter(|id| !id.is_empty())
    }

    #[cfg(feature = "jwt")]
    pub(crate) fn secret(&self) -> Option<&SecretSource> {
        self.secret.as_ref()
    }

    /// Reads the secret, which may have been rotated since the last request, or has an assertion
    /// made for the audience, which may be good for a single request.
    pub(crate) async fn identify(&self, audience: &str) -> Result<Identity<'_>, Error> {
        let secret = match (&self.method, &self.secret) {
            (Method::Assertion(assert), _) => Some(assert(audience).read().await?),
            (Method::Body | Method::Basic, Some(secret)) => Some(secret.read().await?),
            (Method::Body | Method::Basic, None) => None,
        };
        Ok(Identity {
            id: &self.id,
            secret,
            method: &self.method,
        })
    }
}

impl Identity<'_> {
    fn secret(&self) -> &str {
        self.secret
            .as_ref()
            .map_or("", |secret| secret.expose_secret())
    }

    /// Adds what goes in the body: nothing if the header has it.
    pub(crate) fn add_to<'a>(&'a self, params: &mut Params<'a>) {
        match self.method {
            Method::Basic => {}
            Method::Body => {
                params.push("client_id", self.id);
                params.push_secret("client_secret", self.secret());
            }
            Method::Assertion(_) => {
                params.push("client_id", self.id);
                params.push("client_assertion_type", JWT_BEARER);
                params.push_secret("client_assertion", self.secret());
            }
        }
    }

    /// The `Authorization` header, if the client authenticates there.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        if !matches!(self.method, Method::Basic) || self.id.is_empty() {
            return None;
        }
        let encoded = self.basic();
        let mut wire = Zeroizing::new(Vec::with_capacity("Basic ".len() + encoded.len()));
        wire.extend_from_slice(b"Basic ");
        wire.extend_from_slice(encoded.as_bytes());
        sensitive(wire)
    }

    /// Every spelling of the secret or the assertion that a server could echo.
    pub(crate) fn secrets(&self) -> Vec<Zeroizing<String>> {
        let Some(secret) = &self.secret else {
            return Vec::new();
        };
        let secret = secret.expose_secret();
        vec![Zeroizing::new(secret.to_owned()), self.basic()]
    }

    /// Id and secret are form-encoded *before* they are joined (RFC 6749 §2.3.1, appendix B), so
    /// that a colon in the id can't end it.
    fn basic(&self) -> Zeroizing<String> {
        let (id, secret) = (self.id.as_bytes(), self.secret().as_bytes());
        let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
        pair.extend(form_urlencoded::byte_serialize(id));
        pair.push(':');
        pair.extend(form_urlencoded::byte_serialize(secret));
        Zeroizing::new(STANDARD.encode(pair.as_bytes()))
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Body => "Body",
            Self::Basic => "Basic",
            Self::Assertion(_) => "Assertion",
        })
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuth")
            .field("id", &self.id)
            .field("secret", &self.secret)
            .field("method", &self.method)
            .finish()
    }
}
