//! Removes the key of a query credential from the errors and responses that the caller gets. Errors
//! of reqwest contain the request's URL, and programs print errors.

use std::error::Error as StdError;

use super::auth_response::AuthResponse;
use super::local_credential::SentToken;
use super::query_key::QueryKey;
#[cfg(feature = "reqwest")]
use super::reqwest_adapter::url_without_key;
use crate::error::BoxError;
use crate::sanitize::{ErrorText, chain};
use crate::token::issued_token::Credential;

impl SentToken {
    /// Returns an error of the inner service without the key.
    ///
    /// Removes the key from the URL in an error of reqwest. If the error then still shows the key,
    /// returns only the error's text, in which the key is redacted.
    pub(super) fn error_without_key(&self, error: BoxError) -> BoxError {
        match self.credential() {
            Credential::Query(name, _) => {
                without_key(error, &QueryKey::new(name, self.token().secret()))
            }
            Credential::Header(..) | Credential::PerRequest(_) => error,
        }
    }

    /// Returns a response whose URL doesn't contain the key. Clients put the URL of a response into
    /// later errors, such as the error of a broken body.
    pub(super) fn response_without_key<R>(&self, response: R) -> R
    where
        R: AuthResponse,
    {
        match self.credential() {
            Credential::Query(name, _) => {
                response.without_key(&QueryKey::new(name, self.token().secret()))
            }
            Credential::Header(..) | Credential::PerRequest(_) => response,
        }
    }
}

#[cold]
#[cfg_attr(not(feature = "reqwest"), expect(unused_mut))]
fn without_key(mut error: BoxError, key: &QueryKey<'_>) -> BoxError {
    #[cfg(feature = "reqwest")]
    if let Some(url) = url_of(&mut *error)
        && let Some(without) = url_without_key(url, key)
    {
        *url = without;
    }
    let is_shown = chain(&*error).any(|error| shows(error, key));
    match is_shown {
        true => ErrorText::of(&*error, |text| key.redactor().redact(text)),
        false => error,
    }
}

fn shows(error: &(dyn StdError + 'static), key: &QueryKey<'_>) -> bool {
    let redactor = key.redactor();
    redactor.finds_in(&error.to_string()) || redactor.finds_in(&format!("{error:?}"))
}

/// Returns the URL in an error of reqwest or of its middleware.
#[cfg(feature = "reqwest")]
fn url_of<'a>(
    error: &'a mut (dyn StdError + Send + Sync + 'static),
) -> Option<&'a mut reqwest::Url> {
    #[cfg(feature = "reqwest-middleware")]
    if error.is::<reqwest_middleware::Error>() {
        return error.downcast_mut::<reqwest_middleware::Error>()?.url_mut();
    }
    error.downcast_mut::<reqwest::Error>()?.url_mut()
}
