//! The identity in a credentials file, as a source of tokens.

use std::time::Duration;

use super::external_account;
use super::file_fields::FileFields;
use super::file_settings::FileSettings;
use super::impersonation::Impersonation;
use crate::error::Error;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::grants::jwt_bearer::JwtBearer;
use crate::oauth2::grants::refresh_token::RefreshToken;
use crate::oauth2::grants::token_exchange::TokenExchange;
use crate::oauth2::jose::key_pair::JwsAlgorithm;
use crate::oauth2::jose::signed_jwt::SignedJwt;
use crate::oauth2::jose::signing_key::SigningKey;
use crate::sanitize::ServerText;
use crate::source::secret_source::SecretSource;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;

/// The token endpoint, and the audience of an assertion for it.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// The lifetime of a JWT that a service account signs. Google accepts at most 1 h. Google's clients
/// use the maximum, so that the JWT is valid even if this machine's clock is slow.
const JWT_LIFETIME: Duration = Duration::from_secs(60 * 60);

const TYPES: &str =
    "`service_account`, `authorized_user`, `impersonated_service_account` or `external_account`";

#[derive(Debug)]
pub(crate) enum Credentials {
    ServiceAccount(Box<JwtBearer>),
    /// A service account of another universe. The APIs there accept a JWT that the account signs.
    SelfSigned(SecretSource),
    User(Box<RefreshToken>),
    External(Box<TokenExchange>),
    Impersonated(Box<Impersonation>),
}

impl Credentials {
    pub(crate) fn of(file: &FileFields<'_>, settings: &FileSettings) -> Result<Self, Error> {
        settings.universe.check(file)?;
        Self::read(file, settings)
    }

    fn read(file: &FileFields<'_>, settings: &FileSettings) -> Result<Self, Error> {
        match file.required("type")? {
            "service_account" => service_account(file, settings),
            "authorized_user" => user(file, settings),
            "impersonated_service_account" => {
                let source = file.required_object("source_credentials")?;
                let source = Self::read(&source, &settings.for_impersonation())?;
                let impersonation = Impersonation::new(file, settings, source)?;
                Ok(Self::Impersonated(Box::new(impersonation)))
            }
            "external_account" => {
                if file.text("service_account_impersonation_url")?.is_none() {
                    let exchange = external_account::exchange(file, settings)?;
                    return Ok(Self::External(Box::new(exchange)));
                }
                let source = external_account::exchange(file, &settings.for_impersonation())?;
                let impersonation = Impersonation::new(file, settings, source)?;
                Ok(Self::Impersonated(Box::new(impersonation)))
            }
            other => {
                let other = ServerText::new(other);
                let what = format!("is `{other}`, but this source supports {TYPES}");
                Err(file.wrong("type", &what))
            }
        }
    }
}

fn service_account(file: &FileFields<'_>, settings: &FileSettings) -> Result<Credentials, Error> {
    let email = file.required("client_email")?;
    let key = SigningKey::pem(JwsAlgorithm::RS256, file.required("private_key")?);
    let key = key.map_err(|error| file.wrong("private_key", &format!("is unusable: {error}")))?;
    let key = match file.text("private_key_id")? {
        Some(id) => key.key_id(id),
        None => key,
    };
    let jwt = SignedJwt::new(key)
        .issuer(email)
        .lifetime(JWT_LIFETIME)
        .claim("scope", settings.scope_or_all())?;
    if !settings.universe.is_google() {
        return Ok(Credentials::SelfSigned(jwt.subject(email).into()));
    }
    let url = file.text("token_uri")?.unwrap_or(TOKEN_URL);
    let url = settings.universe.checked(file, "token_uri", url)?;
    let client = settings.client(Client::anonymous(url)?);
    let source = JwtBearer::new(client, jwt.audience(TOKEN_URL));
    Ok(Credentials::ServiceAccount(Box::new(source)))
}

/// Reads a person's login. Like Google's clients, the source requests no scopes. Google doesn't
/// rotate the refresh token.
fn user(file: &FileFields<'_>, settings: &FileSettings) -> Result<Credentials, Error> {
    let url = file.text("token_uri")?.unwrap_or(TOKEN_URL);
    let url = settings.universe.checked(file, "token_uri", url)?;
    let (id, secret) = (file.required("client_id")?, file.required("client_secret")?);
    let client = settings.client(Client::new(url, id, secret)?);
    let source = RefreshToken::new(client, file.required("refresh_token")?);
    Ok(Credentials::User(Box::new(source)))
}

impl TokenSource for Credentials {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        match self {
            Self::ServiceAccount(source) => source.fetch(reason).await,
            Self::SelfSigned(source) => source.fetch(reason).await,
            Self::User(source) => source.fetch(reason).await,
            Self::External(source) => source.fetch(reason).await,
            Self::Impersonated(source) => source.fetch(reason).await,
        }
    }
}
