//! A site whose login sets cookies. It responds as the test says and records the requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response};
use http_body_util::Full;
use tower_auth::BoxError;
use tower_auth::login::Session;
use tower_auth_test::{
    RecordedRequest, ScriptedBody, ScriptedResponse, ScriptedServer, run_until_idle,
};
use tower_service::Service;

pub(crate) const LOGIN: &str = "https://api.example.com/v1/session/login";
pub(crate) const THINGS: &str = "https://api.example.com/v1/things";
pub(crate) const PASSWORD: &str = "p4ssword of the test";

/// A site whose closure responds to logins and to all other requests. It records each of them.
#[derive(Clone)]
pub(crate) struct Site {
    server: ScriptedServer,
}

pub(crate) struct Asked<'a> {
    request: &'a RecordedRequest,
    /// The number of this login, or how many logins came before this request.
    pub(crate) logins: usize,
    /// How many requests other than logins came before.
    pub(crate) requests: usize,
}

impl Asked<'_> {
    pub(crate) fn is_login(&self) -> bool {
        is_login(self.request)
    }

    pub(crate) fn path(&self) -> &str {
        self.request.path()
    }

    /// Returns the request's `Cookie` header, as [`cookies`] does.
    pub(crate) fn cookies(&self) -> String {
        cookies(self.request)
    }
}

fn is_login(request: &RecordedRequest) -> bool {
    request.path().ends_with("/login")
}

/// Returns the `Cookie` header, or `-` if there is none. Panics if there are several.
pub(crate) fn cookies(request: &RecordedRequest) -> String {
    let lines: Vec<_> = request.headers().get_all(COOKIE).iter().collect();
    match lines[..] {
        [] => String::from("-"),
        [line] => String::from_utf8(line.as_bytes().to_vec()).unwrap(),
        _ => panic!("more than one line: {lines:?}"),
    }
}

/// Builds a response that sets these cookies.
pub(crate) fn setting(status: u16, set: &[&str]) -> ScriptedResponse {
    let response = ScriptedResponse::new(status);
    let add = |response: ScriptedResponse, line: &&str| response.header(SET_COOKIE.as_str(), line);
    set.iter().fold(response, add)
}

impl Site {
    pub(crate) fn new(
        respond: impl Fn(&Asked<'_>) -> ScriptedResponse + Send + Sync + 'static,
    ) -> Self {
        let logins = AtomicUsize::new(0);
        let server = ScriptedServer::new(move |request| {
            let before = logins.fetch_add(usize::from(is_login(request)), Ordering::SeqCst);
            respond(&Asked {
                request,
                logins: before + usize::from(is_login(request)),
                requests: request.number() - 1 - before,
            })
        });
        Self { server }
    }

    /// Builds a site whose login sets these cookies. Every other response is 200.
    pub(crate) fn setting<const N: usize>(set: [&'static str; N]) -> Self {
        Self::new(move |asked| match asked.is_login() {
            true => setting(200, &set),
            false => setting(200, &[]),
        })
    }

    /// Builds a site whose nth login sets `sid=n`. It accepts only the latest cookie.
    pub(crate) fn numbering() -> Self {
        Self::new(|asked| match asked.is_login() {
            true => setting(200, &[&format!("sid={}; Path=/", asked.logins)]),
            false if cookies(asked.request) == format!("sid={}", asked.logins) => setting(200, &[]),
            false => setting(401, &[]),
        })
    }

    pub(crate) fn session(&self) -> Session {
        Session::new(LOGIN, "me@example.com", PASSWORD)
            .unwrap()
            .transport(self.clone())
    }

    pub(crate) fn asked(&self, logins: bool) -> Vec<RecordedRequest> {
        let mut asked = self.server.requests();
        asked.retain(|request| is_login(request) == logins);
        asked
    }

    pub(crate) fn logins(&self) -> usize {
        self.asked(true).len()
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.asked(false)
    }

    /// Returns the cookies of each request other than logins.
    pub(crate) fn cookies(&self) -> Vec<String> {
        self.requests().iter().map(cookies).collect()
    }
}

impl Service<Request<Full<Bytes>>> for Site {
    type Response = Response<ScriptedBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let response = self.server.call(request);
        let response = async move {
            let response = response.await;
            // Other requests may arrive before this response.
            run_until_idle().await;
            response
        };
        response.boxed()
    }
}

pub(crate) fn get(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}
