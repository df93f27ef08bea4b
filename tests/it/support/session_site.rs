//! A site whose login sets cookies. It responds as the test says and records the requests.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower_auth::login::Session;
use tower_service::Service;

use crate::support::run_until_idle;

pub(crate) const LOGIN: &str = "https://api.example.com/v1/session/login";
pub(crate) const THINGS: &str = "https://api.example.com/v1/things";
pub(crate) const PASSWORD: &str = "p4ssword of the test";

/// A site whose closure responds to logins and to all other requests. It records each of them.
#[derive(Clone)]
pub(crate) struct Site {
    respond: Arc<dyn Fn(&Asked) -> SiteResponse + Send + Sync>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    /// The number of this login, or how many logins came before this request.
    pub(crate) logins: usize,
    /// How many requests other than logins came before.
    pub(crate) requests: usize,
}

pub(crate) struct SiteResponse {
    status: u16,
    set: Vec<String>,
    body: String,
}

impl SiteResponse {
    pub(crate) fn new(status: u16, set: &[&str]) -> Self {
        Self {
            status,
            set: set.iter().copied().map(String::from).collect(),
            body: String::new(),
        }
    }

    pub(crate) fn saying(self, body: &Value) -> Self {
        let body = body.to_string();
        Self { body, ..self }
    }
}

impl Asked {
    pub(crate) fn is_login(&self) -> bool {
        self.url.ends_with("/login")
    }

    /// Returns the `Cookie` header, or `-` if there is none. Panics if there are several.
    pub(crate) fn cookies(&self) -> String {
        let lines: Vec<_> = self.headers.get_all(COOKIE).iter().collect();
        match lines[..] {
            [] => String::from("-"),
            [line] => String::from_utf8(line.as_bytes().to_vec()).unwrap(),
            _ => panic!("more than one line: {lines:?}"),
        }
    }
}

impl Site {
    pub(crate) fn new(respond: impl Fn(&Asked) -> SiteResponse + Send + Sync + 'static) -> Self {
        Self {
            respond: Arc::new(respond),
            asked: Arc::default(),
        }
    }

    /// Builds a site whose login sets these cookies. Every other response is 200.
    pub(crate) fn setting<const N: usize>(set: [&'static str; N]) -> Self {
        Self::new(move |asked| match asked.is_login() {
            true => SiteResponse::new(200, &set),
            false => SiteResponse::new(200, &[]),
        })
    }

    /// Builds a site whose nth login sets `sid=n`. It accepts only the latest cookie.
    pub(crate) fn numbering() -> Self {
        Self::new(|asked| match asked.is_login() {
            true => SiteResponse::new(200, &[&format!("sid={}; Path=/", asked.logins)]),
            false if asked.cookies() == format!("sid={}", asked.logins) => {
                SiteResponse::new(200, &[])
            }
            false => SiteResponse::new(401, &[]),
        })
    }

    pub(crate) fn session(&self) -> Session {
        Session::new(LOGIN, "me@example.com", PASSWORD)
            .unwrap()
            .transport(self.clone())
    }

    pub(crate) fn asked(&self, logins: bool) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        let of_kind = asked.iter().filter(|asked| asked.is_login() == logins);
        of_kind.cloned().collect()
    }

    pub(crate) fn logins(&self) -> usize {
        self.asked(true).len()
    }

    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.asked(false)
    }

    /// Returns the cookies of each request other than logins.
    pub(crate) fn cookies(&self) -> Vec<String> {
        self.requests().iter().map(Asked::cookies).collect()
    }
}

impl Service<Request<Full<Bytes>>> for Site {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let site = self.clone();
        let response = async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let mut asked = Asked {
                url: head.uri.to_string(),
                headers: head.headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
                logins: 0,
                requests: site.requests().len(),
            };
            asked.logins = site.logins() + usize::from(asked.is_login());
            site.asked.lock().unwrap().push(asked.clone());
            // Other requests may arrive before this response.
            run_until_idle().await;
            let scripted = (site.respond)(&asked);
            let mut response = Response::new(Full::from(scripted.body));
            *response.status_mut() = StatusCode::from_u16(scripted.status).unwrap();
            for line in scripted.set {
                let line = line.try_into().unwrap();
                response.headers_mut().append(SET_COOKIE, line);
            }
            Ok(response)
        };
        response.boxed()
    }
}

pub(crate) fn get(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}
