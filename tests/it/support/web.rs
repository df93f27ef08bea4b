//! In-memory servers of any name. Each URL has a page, and every request is recorded.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tower_auth::BoxError;
use tower_auth::oauth2::Transport;

use crate::support::serving::{self, serving};

/// The pages by URL. A URL without a page gets a 404.
#[derive(Clone, Default)]
pub(crate) struct Web {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    pages: HashMap<String, Page>,
    asked: Vec<Asked>,
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET https://…`
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

#[derive(Clone)]
pub(crate) struct Page {
    /// The status, or `None` if the connection breaks.
    status: Option<u16>,
    headers: HeaderMap,
    body: Bytes,
    hangs: bool,
}

impl Page {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status: Some(status),
            headers: HeaderMap::new(),
            body: body.into(),
            hangs: false,
        }
    }

    pub(crate) fn json(value: &Value) -> Self {
        Self::new(200, value.to_string())
    }

    pub(crate) fn breaking() -> Self {
        Self {
            status: None,
            ..Self::new(200, "")
        }
    }

    pub(crate) fn hanging() -> Self {
        Self {
            hangs: true,
            ..Self::new(200, "")
        }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_static(name);
        let value = HeaderValue::from_str(value).unwrap();
        self.headers.insert(name, value);
        self
    }
}

impl Web {
    pub(crate) fn put(&self, url: &str, page: Page) {
        self.inner.lock().unwrap().pages.insert(url.into(), page);
    }

    pub(crate) fn transport(&self) -> impl Transport + Clone + use<> {
        let web = self.clone();
        serving(move |head, body| web.clone().respond(head, body))
    }

    async fn respond(self, head: Parts, body: Bytes) -> Result<serving::ServerResponse, BoxError> {
        // Concurrent requests get to this point before any of them is answered.
        tokio::task::yield_now().await;
        let url = head.uri.to_string();
        let page = {
            let mut web = self.inner.lock().unwrap();
            web.asked.push(Asked {
                line: format!("{} {url}", head.method),
                headers: head.headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
            });
            web.pages.get(&url).cloned()
        };
        let page = page.unwrap_or_else(|| Page::new(404, "not here"));
        if page.hangs {
            pending::<()>().await;
        }
        let mut response = serving::respond(page.status.ok_or("connection reset")?, page.body);
        *response.headers_mut() = page.headers;
        Ok(response)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.inner.lock().unwrap().asked.clone()
    }

    /// Returns `GET https://…` of each request, and forgets the requests.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        let asked = std::mem::take(&mut self.inner.lock().unwrap().asked);
        asked.into_iter().map(|asked| asked.line).collect()
    }

    /// Returns how many requests had this line.
    pub(crate) fn times(&self, line: &str) -> usize {
        let asked = self.asked();
        asked.iter().filter(|asked| asked.line == line).count()
    }
}

impl Asked {
    /// Returns whether the request contains nothing that could be a secret.
    pub(crate) fn is_bare(&self) -> bool {
        let has = |name: &HeaderName| self.headers.contains_key(name);
        self.body.is_empty() && !has(&AUTHORIZATION) && !has(&COOKIE)
    }

    /// Returns a parameter of the form in the body.
    pub(crate) fn param(&self, name: &str) -> Option<String> {
        let mut form = form_urlencoded::parse(self.body.as_bytes());
        form.find(|(sent, _)| sent == name)
            .map(|(_, value)| value.into_owned())
    }
}
