//! Client authentication (RFC 6749 §2.3): an id, with a secret or an assertion (RFC 7521 §4.2).

use std::fmt;
#[cfg(feature = "jwt")]
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::params::Params;
use crate::error::{Error, Kind};
#[cfg(feature = "jwt")]
use crate::oauth2::jose::signed_jwt::SignedJwt;
use crate::source::secret_source::SecretSource;
use crate::token::header_value::sensitive;

/// The client's id, the client's secret, and the part of a request that contains both.
#[derive(Clone, Debug)]
pub(crate) struct ClientAuth {
    /// The client's id, which is empty for an anonymous client.
    id: String,
    /// The client's secret, or `None` for a public client (RFC 6749 §2.1).
    secret: Option<SecretSource>,
    method: AuthMethod,
    /// The `typ` of the assertions that the client signs, or `None` for the default.
    #[cfg(feature = "jwt")]
    assertion_typ: Option<String>,
}

/// The client authentication of one request, with the current secret or a new assertion.
pub(crate) struct RequestAuth<'a> {
    id: &'a str,
    /// The secret or the assertion.
    secret: Option<SecretString>,
    method: &'a AuthMethod,
}

/// The method of client authentication. A client must not use two methods in one request (RFC 6749
/// §2.3).
#[derive(Clone)]
enum AuthMethod {
    /// The method `client_secret_post`, or `none` if the client has no secret.
    Body,
    /// The method `client_secret_basic`.
    Basic,
    /// An assertion that the caller provides (RFC 7523 §2.2).
    Assertion(SecretSource),
    /// An assertion that the client signs itself: `private_key_jwt` or `client_secret_jwt`.
    #[cfg(feature = "jwt")]
    SignedAssertion(Arc<SignedJwt>),
}

/// The assertion type of RFC 7523 §2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl ClientAuth {
    /// Creates a confidential client. Rejects an empty secret, which usually comes from an unset
    /// variable.
    pub(crate) fn confidential(id: String, secret: SecretSource) -> Result<Self, Error> {
        secret.check_location()?;
        if secret.is_empty_value() {
            let message = "the client secret is empty; use `Client::public` for a client that \
                           has none";
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
            method: AuthMethod::Body,
            #[cfg(feature = "jwt")]
            assertion_typ: None,
        })
    }

    pub(crate) fn anonymous() -> Self {
        Self {
            id: String::new(),
            secret: None,
            method: AuthMethod::Body,
            #[cfg(feature = "jwt")]
            assertion_typ: None,
        }
    }

    pub(crate) fn use_basic(&mut self) {
        self.method = AuthMethod::Basic;
    }

    /// Sends an assertion instead of the secret.
    pub(crate) fn use_assertion(&mut self, assertion: SecretSource) {
        self.method = AuthMethod::Assertion(assertion);
    }

    /// Sends a JWT instead of the secret. For each request, the client adds the audience and signs
    /// the JWT.
    #[cfg(feature = "jwt")]
    pub(crate) fn use_signed_assertion(&mut self, jwt: SignedJwt) {
        self.method = AuthMethod::SignedAssertion(Arc::new(jwt));
    }

    #[cfg(feature = "jwt")]
    pub(crate) fn set_assertion_typ(&mut self, typ: String) {
        self.assertion_typ = Some(typ);
    }

    /// Returns the id, or `None` for an anonymous client.
    pub(crate) fn id(&self) -> Option<&str> {
        Some(self.id.as_str()).filter(|id| !id.is_empty())
    }

    #[cfg(feature = "jwt")]
    pub(crate) fn secret(&self) -> Option<&SecretSource> {
        self.secret.as_ref()
    }

    /// Reads the secret again for each request, because the secret may be rotated. Makes a new
    /// assertion for each request, because a server may accept an assertion only once. Awaits
    /// `audience` only if the client signs an assertion.
    #[cfg_attr(not(feature = "jwt"), expect(unused_variables))]
    pub(crate) async fn for_request(
        &self,
        audience: impl Future<Output = Result<String, Error>>,
    ) -> Result<RequestAuth<'_>, Error> {
        let secret = match &self.method {
            AuthMethod::Body | AuthMethod::Basic => match &self.secret {
                Some(secret) => Some(secret.read().await?),
                None => None,
            },
            AuthMethod::Assertion(assertion) => Some(assertion.read().await?),
            #[cfg(feature = "jwt")]
            AuthMethod::SignedAssertion(jwt) => {
                let mut jwt = SignedJwt::clone(jwt).audience(audience.await?);
                if let Some(typ) = &self.assertion_typ {
                    jwt = jwt.typ(typ);
                }
                Some(SecretSource::from(jwt).read().await?)
            }
        };
        Ok(RequestAuth {
            id: &self.id,
            secret,
            method: &self.method,
        })
    }
}

impl RequestAuth<'_> {
    fn secret(&self) -> &str {
        let secret = self.secret.as_ref();
        secret.map_or("", SecretString::expose_secret)
    }

    /// Adds the parameters to the body. Basic authentication adds no parameters.
    pub(crate) fn add_to<'a>(&'a self, params: &mut Params<'a>) {
        match self.method {
            AuthMethod::Basic => {}
            AuthMethod::Body => {
                params.push("client_id", self.id);
                params.push_secret("client_secret", self.secret());
            }
            AuthMethod::Assertion(_) => self.add_assertion_to(params),
            #[cfg(feature = "jwt")]
            AuthMethod::SignedAssertion(_) => self.add_assertion_to(params),
        }
    }

    fn add_assertion_to<'a>(&'a self, params: &mut Params<'a>) {
        params.push("client_id", self.id);
        params.push("client_assertion_type", JWT_BEARER);
        params.push_secret("client_assertion", self.secret());
    }

    /// Returns the `Authorization` header of basic authentication.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        if !matches!(self.method, AuthMethod::Basic) || self.id.is_empty() {
            return None;
        }
        let encoded = self.basic();
        let mut header = Zeroizing::new(Vec::with_capacity("Basic ".len() + encoded.len()));
        header.extend_from_slice(b"Basic ");
        header.extend_from_slice(encoded.as_bytes());
        sensitive(header)
    }

    /// Returns the secret or the assertion in each form that a server may echo.
    pub(crate) fn secrets(&self) -> Vec<Zeroizing<String>> {
        let Some(secret) = &self.secret else {
            return Vec::new();
        };
        let secret = secret.expose_secret();
        vec![Zeroizing::new(secret.to_owned()), self.basic()]
    }

    /// Form-encodes the id and the secret *before* joining them (RFC 6749 §2.3.1, appendix B).
    /// Otherwise, a colon in the id would end the id.
    fn basic(&self) -> Zeroizing<String> {
        let (id, secret) = (self.id.as_bytes(), self.secret().as_bytes());
        let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
        pair.extend(form_urlencoded::byte_serialize(id));
        pair.push(':');
        pair.extend(form_urlencoded::byte_serialize(secret));
        Zeroizing::new(STANDARD.encode(pair.as_bytes()))
    }
}

impl fmt::Debug for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Body => "Body",
            Self::Basic => "Basic",
            Self::Assertion(_) => "Assertion",
            #[cfg(feature = "jwt")]
            Self::SignedAssertion(_) => "SignedAssertion",
        })
    }
}
