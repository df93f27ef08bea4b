//! A user name and a password, as a login in JSON has them.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::json;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::exchange::EndpointRequest;
use crate::http_client::redact::Redactor;
use crate::source::secret_source::SecretSource;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;

pub(super) struct Credentials {
    user: String,
    password: SecretSource,
    user_field: String,
    password_field: String,
    extra: Vec<(String, Value)>,
}

impl Credentials {
    pub(super) fn new(user: String, password: SecretSource) -> Result<Self, Error> {
        if user.is_empty() {
            return Err(Error::new(Kind::Config, "the user name is empty"));
        }
        if password.is_empty_value() {
            return Err(Error::new(Kind::Config, "the password is empty"));
        }
        Ok(Self {
            user,
            password,
            user_field: String::from("/email"),
            password_field: String::from("/password"),
            extra: Vec::new(),
        })
    }

    pub(super) fn set_user_field(&mut self, pointer: String) -> Result<(), Error> {
        self.user_field = json::pointer(pointer)?;
        Ok(())
    }

    pub(super) fn set_password_field(&mut self, pointer: String) -> Result<(), Error> {
        self.password_field = json::pointer(pointer)?;
        Ok(())
    }

    pub(super) fn add_field(&mut self, pointer: String, value: Value) -> Result<(), Error> {
        self.extra.push((json::pointer(pointer)?, value));
        Ok(())
    }

    /// Adds whose they are, and all that goes along, to what a token depends on.
    #[cfg(feature = "fleet")]
    pub(super) fn add_to_key(&self, key: StoreKey) -> StoreKey {
        let key = key.with("user", &self.user);
        let fields = self.extra.iter();
        fields.fold(key, |key, (pointer, value)| {
            key.with(format!("field {pointer}"), value.to_string())
        })
    }

    /// The login, with the password as it is now, and what hides that in the answer.
    pub(super) async fn question(&self) -> Result<(EndpointRequest, Redactor), Error> {
        let password = self.password.read().await?;
        let secret = password.expose_secret();
        let mut members = self.extra.clone();
        let extra: Vec<&str> = self
            .extra
            .iter()
            .flat_map(|(_, it)| json::texts(it))
            .collect();
        members.push((self.user_field.clone(), Value::from(self.user.as_str())));
        members.push((self.password_field.clone(), Value::from(secret)));
        let (question, mut redactor) = question(members, &password)?;
        for text in extra {
            redactor.hide(text);
        }
        Ok((question, redactor))
    }
}

/// `secret` is the one among the members.
pub(super) fn question(
    members: Vec<(String, Value)>,
    secret: &SecretString,
) -> Result<(EndpointRequest, Redactor), Error> {
    let question = EndpointRequest::json(json::written(members)?);
    let mut redactor = Redactor::default();
    redactor.hide(secret.expose_secret());
    Ok((question, redactor))
}

/// Where a login is. No issuer's metadata knows one of an API's own.
pub(super) fn address<U>(url: U) -> Result<EndpointUrl, Error>
where
    U: TryInto<EndpointUrl>,
    Error: From<U::Error>,
{
    url.try_into()?.only_address()
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user_field", &self.user_field)
            .field("password_field", &self.password_field)
            .finish_non_exhaustive()
    }
}
