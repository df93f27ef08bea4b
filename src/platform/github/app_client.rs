//! The requests that a GitHub App sends to GitHub's REST API.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;

use crate::error::Error;
use crate::http_client::bounded_response::EndpointResponse;
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::endpoint_kind::EndpointKind;
use crate::http_client::endpoint_url::{EndpointUrl, base};
use crate::http_client::token_response::server_time;
use crate::http_client::token_response_format::TokenResponseFormat;
use crate::oauth2::jose::key_pair::JwsAlgorithm;
use crate::oauth2::jose::signing_key::SigningKey;
use crate::source::secret_source::SecretSource;
use crate::token::header_value::credential_value;
use crate::token::redact::Redactor;
use crate::token::secret_json;

/// Sends requests as the app. Each request contains a new JWT.
#[derive(Clone)]
pub(crate) struct AppClient {
    pub(crate) id: String,
    key: SigningKey,
    /// The address of the REST API, without a slash at the end.
    pub(crate) api_url: String,
    pub(crate) http: EndpointClient,
}

const GITHUB: &str = "https://api.github.com";

/// GitHub recommends the media type and the version, and requires the user agent.
const HEADERS: [(HeaderName, &str); 3] = [
    (ACCEPT, "application/vnd.github+json"),
    (
        HeaderName::from_static("x-github-api-version"),
        "2022-11-28",
    ),
    (
        USER_AGENT,
        concat!("tower-auth/", env!("CARGO_PKG_VERSION")),
    ),
];

/// The maximum length of a response in bytes. A response may describe 500 repositories, with 5 to 7
/// KiB each.
const RESPONSE_LIMIT: usize = 4 * 1024 * 1024;

/// How long before now a JWT is issued, as GitHub recommends.
const ISSUED_BEFORE: Duration = Duration::from_secs(60);

/// How long a JWT is valid. GitHub accepts at most 10 min, and this machine's clock may be fast.
const LIFETIME: Duration = Duration::from_secs(9 * 60);

/// A larger difference of the clocks may be the reason why GitHub refused a JWT.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// The claims of an app's JWT.
#[derive(Serialize)]
struct Claims<'a> {
    iat: u64,
    exp: u64,
    iss: &'a str,
}

impl AppClient {
    pub(crate) fn new(id: String, private_key: SecretSource) -> Result<Self, Error> {
        let mut http = EndpointClient::new(EndpointUrl::try_from(GITHUB)?).named("GitHub");
        http.limit = RESPONSE_LIMIT;
        http.format = TokenResponseFormat::new()
            .access_token_field("/token")?
            .into();
        Ok(Self {
            id,
            key: SigningKey::pem(JwsAlgorithm::RS256, private_key)?,
            api_url: GITHUB.to_owned(),
            http,
        })
    }

    pub(crate) fn set_api_url(&mut self, url: &str) -> Result<(), Error> {
        const WHAT: &str = "the address of GitHub's REST API";
        let url = base(WHAT, url)?;
        self.http.url = EndpointUrl::secure(WHAT, url)?;
        url.clone_into(&mut self.api_url);
        Ok(())
    }

    /// Sends a request as the app: a POST if there is a body, otherwise a GET. Call this method
    /// inside the client's timeout. The returned redactor hides the JWT.
    pub(crate) async fn send(
        &self,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(EndpointResponse, Redactor), Error> {
        let now = SystemTime::now();
        let (response, redactor) = self.send_at(now, path, body).await?;
        let github = server_time(&response.headers).filter(|github| differ(*github, now));
        match github {
            Some(github) if response.status == StatusCode::UNAUTHORIZED => {
                self.send_at(github, path, body).await
            }
            _ => Ok((response, redactor)),
        }
    }

    async fn send_at(
        &self,
        now: SystemTime,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(EndpointResponse, Redactor), Error> {
        let jwt = self.sign(now).await?;
        let mut redactor = Redactor::default();
        redactor.hide(jwt.expose_secret());
        let mut request = match body {
            Some(body) => EndpointRequest::json(secret_json::encode(body).unwrap_or_default()),
            None => EndpointRequest::get(),
        };
        let authorization = credential_value(&AUTHORIZATION, "Bearer ", &jwt)?;
        request.headers.insert(AUTHORIZATION, authorization);
        for (name, value) in HEADERS {
            request
                .headers
                .insert(name, HeaderValue::from_static(value));
        }
        let url = EndpointUrl::try_from(format!("{}{path}", self.api_url))?;
        let http = self.http.to(url, EndpointKind::Token).named("GitHub");
        let response = http.complete(http.post_partial(request).await?)?;
        Ok((response, redactor))
    }

    /// Signs a JWT that is valid at this time.
    async fn sign(&self, now: SystemTime) -> Result<SecretString, Error> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = Claims {
            iat: now.saturating_sub(ISSUED_BEFORE).as_secs(),
            exp: now.saturating_add(LIFETIME).as_secs(),
            iss: &self.id,
        };
        self.key.sign("JWT", &claims).await
    }
}

/// Returns whether the times differ so much that GitHub may refuse a JWT.
fn differ(one: SystemTime, other: SystemTime) -> bool {
    let difference = one.duration_since(other);
    difference.unwrap_or_else(|error| error.duration()) > CLOCK_TOLERANCE
}

impl fmt::Debug for AppClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("id", &self.id)
            .field("key", &self.key)
            .field("api_url", &self.api_url)
            .finish_non_exhaustive()
    }
}
