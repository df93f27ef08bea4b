//! An in-memory token endpoint that always gives the same response and records the requests.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::future::ready;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use tower_auth::oauth2::{ClientCredentials, Transport};
use tower_auth::{Error, Reason, Token, TokenSource};

use crate::support::serving::{params, respond, serving};

pub(crate) const URL: &str = "https://id.example.com/oauth/token";
pub(crate) const ID: &str = "the-client";
pub(crate) const SECRET: &str = "s3cr3t/of+the client";

#[derive(Clone)]
pub(crate) struct TokenServer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    asked: Arc<Mutex<Vec<(Parts, Bytes)>>>,
}

impl TokenServer {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("content-type"),
            HeaderValue::from_static("application/json"),
        )]);
        Self {
            status,
            headers,
            body: body.into(),
            asked: Arc::default(),
        }
    }

    pub(crate) fn issuing() -> Self {
        Self::new(
            200,
            r#"{"access_token":"issued","token_type":"Bearer","expires_in":3600}"#,
        )
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn transport(&self) -> impl Transport + use<> {
        let server = self.clone();
        serving(move |head, body| {
            server.asked.lock().unwrap().push((head, body));
            let mut response = respond(server.status, server.body.clone());
            *response.headers_mut() = server.headers.clone();
            ready(Ok(response))
        })
    }

    pub(crate) fn client(&self) -> ClientCredentials {
        ClientCredentials::new(URL, ID, SECRET)
            .unwrap()
            .transport(self.transport())
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Returns the head and the body of the last request.
    pub(crate) fn request(&self) -> (Parts, String) {
        let (parts, body) = self
            .asked
            .lock()
            .unwrap()
            .pop()
            .expect("the server was asked");
        (parts, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Returns the parameters of the last request's form.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        params(self.request().1.as_bytes())
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
