//! The request that logs in to an API: its address, its credentials and its transport.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::json;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::endpoint_kind::EndpointKind;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::source::secret_source::SecretSource;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::token::redact::Redactor;
#[cfg(feature = "fleet")]
use crate::token::secret_json;
use crate::token::secret_json::SecretJson;

pub(super) struct LoginRequest {
    pub(super) http: EndpointClient,
    user: String,
    password: SecretSource,
    pub(super) user_field: String,
    pub(super) password_field: String,
    /// The fields that are the same in each request. Strings in these fields may be secrets.
    pub(super) fields: Vec<(String, SecretJson)>,
}

impl LoginRequest {
    pub(super) fn new<U>(
        url: U,
        user: impl Into<String>,
        password: impl Into<SecretSource>,
    ) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let http = EndpointClient::new(address(url)?);
        let (user, password) = (user.into(), password.into());
        if user.is_empty() {
            return Err(Error::new(Kind::Config, "the user name is empty"));
        }
        password.check_location()?;
        if password.is_empty_value() {
            return Err(Error::new(Kind::Config, "the password is empty"));
        }
        Ok(Self {
            http,
            user,
            password,
            user_field: String::from("/email"),
            password_field: String::from("/password"),
            fields: Vec::new(),
        })
    }

    /// Returns a client for another endpoint of the API, with the same transport and timeout.
    pub(super) fn client_for(&self, url: &EndpointUrl) -> EndpointClient {
        self.http.to(url.clone(), EndpointKind::Token)
    }

    /// Adds the address, the user and the fields to a store key, because a token depends on these
    /// values.
    #[cfg(feature = "fleet")]
    pub(super) fn add_to_key(&self, key: StoreKey) -> StoreKey {
        let key = self.http.url.add_to_key(key).with("user", &self.user);
        let fields = self.fields.iter();
        fields.fold(key, |key, (pointer, value)| {
            let value = secret_json::encode(value).unwrap_or_default();
            let text = str::from_utf8(&value).unwrap_or_default();
            key.with(format!("field {pointer}"), text)
        })
    }

    /// Builds the request with the current password, and a redactor for the response.
    pub(super) async fn build(&self) -> Result<(EndpointRequest, Redactor), Error> {
        let password = self.password.read().await?;
        let mut fields = self.fields.clone();
        let user = Value::from(self.user.as_str());
        fields.push((self.user_field.clone(), user.into()));
        let secret = Value::from(password.expose_secret());
        fields.push((self.password_field.clone(), secret.into()));
        let (request, mut redactor) = request(fields, &password)?;
        for text in self.fields.iter().flat_map(|(_, value)| json::texts(value)) {
            redactor.hide(text);
        }
        Ok((request, redactor))
    }
}

/// Builds a request with these fields, and a redactor for the response. `secret` is one of the
/// fields.
pub(super) fn request(
    fields: Vec<(String, SecretJson)>,
    secret: &SecretString,
) -> Result<(EndpointRequest, Redactor), Error> {
    let mut redactor = Redactor::default();
    redactor.hide(secret.expose_secret());
    Ok((EndpointRequest::json(json::object(fields)?), redactor))
}

/// Converts an address. Rejects an issuer, because an issuer's metadata never contains the address
/// of an API's own login.
pub(super) fn address<U>(url: U) -> Result<EndpointUrl, Error>
where
    U: TryInto<EndpointUrl>,
    Error: From<U::Error>,
{
    url.try_into()?.only_address()
}

impl fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginRequest")
            .field("http", &self.http)
            .field("user_field", &self.user_field)
            .field("password_field", &self.password_field)
            .finish_non_exhaustive()
    }
}

/// Defines the setters of a login that has its [`LoginRequest`] in the field `login`.
macro_rules! login_setters {
    ($login:ident) => {
        impl $login {
            crate::http_client::json_pointer::pointer_setters! {
                /// Sets the login request's field for the user name. Default: `/email`.
                user_field => login.user_field;
                /// Sets the login request's field for the password. Default: `/password`.
                password_field => login.password_field;
            }

            /// Adds a field that is the same in each login request, such as a tenant or a device.
            /// The field's strings are treated as secrets.
            ///
            /// # Errors
            ///
            /// [`is_config`](crate::Error::is_config) if `pointer` isn't a JSON pointer (RFC 6901)
            /// to a field.
            pub fn field(
                mut self,
                pointer: impl Into<String>,
                value: impl Into<serde_json::Value>,
            ) -> Result<Self, Error> {
                let pointer = crate::http_client::json_pointer::checked(pointer.into())?;
                self.login.fields.push((pointer, value.into().into()));
                Ok(self)
            }

            /// Sends all requests with `transport`, such as your own HTTP client. The default is
            /// the same as for [`oauth2::Client::transport`](crate::oauth2::Client::transport).
            #[must_use]
            pub fn transport(
                mut self,
                transport: impl crate::http_client::transport::Transport,
            ) -> Self {
                let transport = crate::http_client::transport::DynTransport::new(transport);
                self.login.http.transport = transport;
                self
            }

            /// Sets the timeout of each request, from connecting to the last byte of the response.
            /// Default: 10 s.
            #[must_use]
            pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
                self.login.http.timeout = timeout;
                self
            }
        }
    };
}

pub(super) use login_setters;
