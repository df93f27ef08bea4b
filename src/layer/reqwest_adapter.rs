//! Implements [`AuthRequest`] and [`AuthResponse`] for reqwest's requests and responses.

use std::{fmt, mem};

use http::header::HeaderMap;
use http::{Extensions, Method, StatusCode};
use reqwest::{ResponseBuilderExt, Url};

use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use super::body::replay::Replay;
use super::query;
use super::query_key::QueryKey;
use crate::error::Error;

/// The host in a `reqwest::Response` that was made from an `http::Response` without a URL.
/// Middleware and tests make such responses.
const UNKNOWN_HOST: &str = "no.url.provided.local";

/// The recorded parts of a [`reqwest::Request`], used to send it again.
pub struct ReqwestCopy {
    head: reqwest::Request,
    body: Option<<reqwest::Body as Replay>::Copy>,
}

impl AuthRequest for reqwest::Request {
    type Copy = ReqwestCopy;

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    fn method(&self) -> &Method {
        self.method()
    }

    fn path(&self) -> &str {
        self.url().path()
    }

    fn query(&self) -> Option<&str> {
        self.url().query()
    }

    fn scheme(&self) -> Option<&str> {
        Some(self.url().scheme())
    }

    fn host(&self) -> Option<&str> {
        self.url().host_str()
    }

    fn port(&self) -> Option<u16> {
        self.url().port()
    }

    fn authority(&self) -> Option<&str> {
        self.url().has_host().then(|| self.url().authority())
    }

    fn has_query(&self, name: &str) -> bool {
        query::contains(self.url().query(), name)
    }

    fn set_query(&mut self, name: &str, pair: &str) -> Result<(), Error> {
        let query = query::replace(self.url().query(), name, pair);
        self.url_mut().set_query(Some(&query));
        Ok(())
    }

    fn record(&mut self, limit: usize) -> Option<Self::Copy> {
        // reqwest can't clone a request with a stream, so the body is recorded separately.
        let mut body = self.body_mut().take();
        let head = self.try_clone();
        let recorded = match &mut body {
            None => Some(None),
            Some(body) => body.record(limit).map(Some),
        };
        *self.body_mut() = body;
        let (head, body) = head.zip(recorded)?;
        Some(ReqwestCopy { head, body })
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        let mut request = copy.head;
        *request.body_mut() = match copy.body {
            None => None,
            Some(body) => Some(reqwest::Body::replay(body)?),
        };
        Some(request)
    }
}

/// Omits headers and body, because they may contain the caller's secrets.
impl fmt::Debug for ReqwestCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestCopy").finish_non_exhaustive()
    }
}

/// Returns the URL without the key, or `None` if the URL doesn't contain the key.
pub(super) fn url_without_key(url: &Url, key: &QueryKey<'_>) -> Option<Url> {
    key.remove_from(url.as_str())?.parse().ok()
}

impl AuthResponse for reqwest::Response {
    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn answered_by(&self) -> Option<(&str, &str, Option<u16>)> {
        let url = self.url();
        let host = url.host_str().filter(|host| *host != UNKNOWN_HOST)?;
        Some((url.scheme(), host, url.port()))
    }

    fn without_key(self, key: &QueryKey<'_>) -> Self {
        let Some(url) = url_without_key(self.url(), key) else {
            return self;
        };
        // A `reqwest::Response` takes its URL from the extensions of an `http::Response`.
        let Ok(mut with_url) = http::Response::builder().url(url).body(()) else {
            return self;
        };
        let mut response = http::Response::<reqwest::Body>::from(self);
        let url = mem::take(with_url.extensions_mut());
        response.extensions_mut().extend(url);
        response.into()
    }

    fn extensions(&self) -> &Extensions {
        self.extensions()
    }

    fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }
}
