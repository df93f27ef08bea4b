//! An in-memory token endpoint that always gives the same response and records the requests.

use std::error::Error as StdError;
use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderValue, Response};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Error, Reason, Token, TokenSource};
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer};

pub(crate) const URL: &str = "https://id.example.com/oauth/token";
pub(crate) const ID: &str = "the-client";
pub(crate) const SECRET: &str = "s3cr3t/of+the client";

#[derive(Clone)]
pub(crate) struct TokenServer {
    response: Response<Bytes>,
    server: ScriptedServer,
}

impl TokenServer {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let response = Response::builder().status(status);
        let response = response.header("content-type", "application/json");
        Self::responding(response.body(body.into()).unwrap())
    }

    fn responding(response: Response<Bytes>) -> Self {
        let scripted = ScriptedResponse::from(response.clone());
        let server = ScriptedServer::new(move |_| scripted.clone());
        Self { response, server }
    }

    pub(crate) fn issuing() -> Self {
        Self::new(
            200,
            r#"{"access_token":"issued","token_type":"Bearer","expires_in":3600}"#,
        )
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        self.response.headers_mut().insert(name, value);
        Self::responding(self.response)
    }

    pub(crate) fn transport(&self) -> ScriptedServer {
        self.server.clone()
    }

    pub(crate) fn client(&self) -> ClientCredentials {
        ClientCredentials::new(URL, ID, SECRET)
            .unwrap()
            .transport(self.transport())
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.server.requests().len()
    }

    /// Returns the last request.
    pub(crate) fn request(&self) -> RecordedRequest {
        let asked = self.server.requests().pop();
        asked.expect("the server was asked")
    }

    /// Returns the parameters of the last request's form.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        self.request().form()
    }
}

/// Returns the result of a fetch that gets this response.
pub(crate) async fn fetch(status: u16, body: impl Into<Bytes>) -> Result<Token, Error> {
    TokenServer::new(status, body)
        .client()
        .fetch(Reason::First)
        .await
}

/// Returns all text of an error and of its sources, in every format.
pub(crate) fn all_text_of(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, " {cause} {cause:?}").unwrap();
        source = cause.source();
    }
    text
}

/// Returns the expiry as `Debug` shows it, such as `In(60s)`.
pub(crate) fn expiry(token: &Token) -> String {
    let text = format!("{token:?}");
    let (_, rest) = text.split_once("expiry: ").unwrap();
    rest.split_once(", refresh_hint").unwrap().0.to_owned()
}

/// Owns the parameters of a form, for comparison with [`TokenServer::form`].
pub(crate) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}
