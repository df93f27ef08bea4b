//! A Django server with two logins: tokens of djangorestframework-simplejwt, and Django's own
//! sessions. Each test starts its own server.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::process::{Program, Server};
use crate::servers::{HTTP, text};

pub(crate) const USER: &str = "me@example.com";
pub(crate) const PASSWORD: &str = "p4ssword of the test";

pub(crate) struct Django {
    server: Server,
}

/// A request and its response.
#[derive(Deserialize)]
pub(crate) struct Seen {
    /// `POST /session/login 200`
    pub(crate) line: String,
    /// The session cookie, if the request had one.
    pub(crate) session: Option<String>,
}

impl Django {
    pub(crate) fn start() -> Self {
        let program = Program::python("django_login/serve.py").variable("PASSWORD", PASSWORD);
        Self {
            server: Server::start(program),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    pub(crate) async fn seen(&self) -> Vec<Seen> {
        self.read("/-/seen").await
    }

    /// Returns a line such as `POST /session/login 200` for each request.
    pub(crate) async fn lines(&self) -> Vec<String> {
        let seen = self.seen().await;
        seen.into_iter().map(|seen| seen.line).collect()
    }

    /// Returns the number of sessions on the server.
    pub(crate) async fn sessions(&self) -> usize {
        self.read("/-/sessions").await
    }

    /// Sends a command to the server.
    pub(crate) async fn tell(&self, what: &str) {
        text(HTTP.post(self.url(&format!("/-/{what}")))).await;
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> T {
        serde_json::from_str(&text(HTTP.get(self.url(path))).await).unwrap()
    }
}
