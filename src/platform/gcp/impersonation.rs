//! Uses the token of one account to get the token of another account (service account
//! impersonation).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{StatusCode, Uri};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::file_fields::FileFields;
use super::file_settings::FileSettings;
use crate::cache::token_cache::TokenCache;
use crate::error::Error;
use crate::http_client::bounded_response::unusable;
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::token_response::{ASSUMED_LIFETIME, WantedToken};
use crate::http_client::token_response_format::TokenResponseFormat;
use crate::platform::expiry_field;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::header_value::credential_value;
use crate::token::issued_token::Token;
use crate::token::redact::Redactor;

/// The default lifetime of the token. Google allows more only if an organization's policy does.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

const METHOD: &str = ":generateAccessToken";
const NAME: &str = "the IAM credentials API";
const URL: &str = "service_account_impersonation_url";

/// Fetches tokens with `generateAccessToken` of the [Service Account Credentials API][api].
///
/// [api]: https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
pub(crate) struct Impersonation {
    http: EndpointClient,
    /// The tokens of the account that may impersonate.
    source: TokenCache,
    scopes: Vec<String>,
    delegates: Vec<String>,
    lifetime: Duration,
}

/// Returns the email address of the account that an address of `generateAccessToken` names.
pub(crate) fn account_of(url: &str) -> Option<&str> {
    let (_, account) = url.strip_suffix(METHOD)?.rsplit_once('/')?;
    Some(account).filter(|account| !account.is_empty())
}

impl Impersonation {
    /// Reads the account to impersonate from a file.
    pub(crate) fn new(
        file: &FileFields<'_>,
        settings: &FileSettings,
        source: impl TokenSource,
    ) -> Result<Self, Error> {
        let url = file.required(URL)?;
        let address = settings
            .universe
            .service(file, URL, url, "iamcredentials")?;
        let has_query = url.parse().is_ok_and(|url: Uri| url.query().is_some());
        if has_query || account_of(url).is_none() {
            let what = format!("doesn't end with an account and `{METHOD}`");
            return Err(file.wrong(URL, &what));
        }
        let mut http = settings.endpoint(EndpointClient::new(address).named(NAME));
        http.format = Arc::new(format()?);
        let options = file.object("service_account_impersonation")?;
        let lifetime = match options {
            Some(options) => options.number("token_lifetime_seconds")?,
            None => None,
        };
        let scopes = settings.scope_or_all().split(' ');
        let source = TokenCache::builder(source);
        let source = match settings.fetch_timeout() {
            Some(timeout) => source.fetch_timeout(timeout),
            None => source,
        };
        Ok(Self {
            http,
            source: source.build(),
            scopes: scopes.map(str::to_owned).collect(),
            delegates: file.texts("delegates")?,
            lifetime: lifetime.map_or(LIFETIME, Duration::from_secs),
        })
    }

    async fn request(&self, source: &Token) -> Result<Token, Error> {
        let body = serde_json::json!({
            "delegates": self.delegates,
            "scope": self.scopes,
            "lifetime": format!("{}s", self.lifetime.as_secs()),
        });
        let body = Zeroizing::new(body.to_string().into_bytes());
        let mut request = EndpointRequest::json(body);
        let secret = SecretString::from(source.secret());
        let credential = credential_value(&AUTHORIZATION, "Bearer ", &secret)?;
        request.headers.insert(AUTHORIZATION, credential);
        let mut redactor = Redactor::default();
        redactor.hide(source.secret());

        let response = self.http.post_partial(request).await?;
        let response = self.http.complete(response)?;
        let token = response.tokens(WantedToken::BEARER, redactor).rest?;
        let token = token.into_token("", ASSUMED_LIFETIME, Token::bearer)?;
        let expiry = expiry_field::read(&response, "/expireTime")?.ok_or_else(|| {
            let reply = format!("{NAME}'s reply");
            unusable(&reply, response.status, "has no `/expireTime`")
        })?;
        Ok(token.with_expiry(expiry).with_scope(self.scopes.join(" ")))
    }
}

/// The format of Google's APIs, for tokens and for errors (AIP-193).
fn format() -> Result<TokenResponseFormat, Error> {
    TokenResponseFormat::new()
        .access_token_field("/accessToken")?
        .error_code_field("/error/status")?
        .error_description_field("/error/message")
}

impl TokenSource for Impersonation {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        // After a refusal, the reason concerns the token of the impersonated account, not the
        // token of `source`.
        let source = self.source.fetch(Reason::First).await?;
        match self.http.within(self.request(&source)).await {
            Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
                let renewed = self.source.fetch(Reason::Refused).await?;
                if renewed.is_same_credential(&source) {
                    return Err(error);
                }
                self.http.within(self.request(&renewed)).await
            }
            result => result,
        }
    }
}

impl fmt::Debug for Impersonation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Impersonation")
            .field("url", &self.http.url)
            .field("scopes", &self.scopes)
            .field("delegates", &self.delegates)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
