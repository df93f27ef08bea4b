//! The auth methods of the server, with the credentials that each of them takes.

use std::fmt;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::error::{Error, Kind};
use crate::source::secret_source::SecretSource;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{DynTokenSource, Reason};
use crate::token::redact::Redactor;
use crate::token::secret_json::{self, SecretJson};

pub(super) enum AuthMethod {
    AppRole {
        role_id: String,
        secret_id: SecretSource,
    },
    Jwt {
        /// The role, or an empty text for the default role of the mount.
        role: String,
        jwt: Box<dyn DynTokenSource>,
    },
}

impl AuthMethod {
    /// Reads the current credentials. Returns the body of the login, and a redactor for the response.
    pub(super) async fn credentials(&self) -> Result<(Zeroizing<Vec<u8>>, Redactor), Error> {
        let mut redactor = Redactor::default();
        let fields = match self {
            Self::AppRole { role_id, secret_id } => {
                let secret_id = secret_id.read().await?;
                redactor.hide(role_id);
                redactor.hide(secret_id.expose_secret());
                json!({ "role_id": role_id, "secret_id": secret_id.expose_secret() })
            }
            Self::Jwt { role, jwt } => {
                let jwt = jwt.fetch(Reason::First).await?;
                redactor.hide(jwt.secret());
                let mut fields = json!({ "jwt": jwt.secret() });
                if !role.is_empty() {
                    fields["role"] = Value::from(role.as_str());
                }
                fields
            }
        };
        let body = secret_json::encode(&SecretJson::from(fields));
        let body = body.map_err(|_| Error::new(Kind::Config, "could not encode the login"))?;
        Ok((body, redactor))
    }

    /// Returns the source of the JWT.
    pub(super) fn jwt(&self) -> Option<&dyn DynTokenSource> {
        match self {
            Self::AppRole { .. } => None,
            Self::Jwt { jwt, .. } => Some(&**jwt),
        }
    }

    /// Returns a key for the identity. Returns `None` if the source of the JWT has no key.
    #[cfg(feature = "fleet")]
    pub(super) fn store_key(&self) -> Option<StoreKey> {
        match self {
            Self::AppRole { role_id, .. } => {
                Some(StoreKey::new("vault approle").with("role_id", role_id))
            }
            Self::Jwt { role, jwt } => Some(
                StoreKey::new("vault jwt")
                    .with("role", role)
                    .with_key("jwt", &jwt.store_key()?),
            ),
        }
    }
}

impl fmt::Debug for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A role id isn't public, because some roles require no secret id.
            Self::AppRole { secret_id, .. } => f
                .debug_struct("AppRole")
                .field("secret_id", secret_id)
                .finish_non_exhaustive(),
            Self::Jwt { role, .. } => f
                .debug_struct("Jwt")
                .field("role", role)
                .finish_non_exhaustive(),
        }
    }
}
