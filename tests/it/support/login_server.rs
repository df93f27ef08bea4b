//! An in-memory authorization server for user logins. It responds from a script and records each
//! request with its time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tower_auth::oauth2::Client;
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::token_server::{ID, URL};

pub(crate) type Form = Vec<(String, String)>;

/// The status and the body of a response.
pub(crate) type Response = (u16, &'static str);

/// A token response with an access token and a refresh token.
pub(crate) const ISSUED: Response = (
    200,
    r#"{"access_token":"first","refresh_token":"refresh","token_type":"Bearer","expires_in":3600}"#,
);

/// The response to the refresh that follows.
pub(crate) const REFRESHED: Response = (
    200,
    r#"{"access_token":"second","token_type":"Bearer","expires_in":3600}"#,
);

/// The connection breaks before a response.
pub(crate) const BROKEN: Response = (0, "");

#[derive(Clone)]
pub(crate) struct LoginServer {
    server: ScriptedServer,
    left: Arc<Mutex<VecDeque<Response>>>,
    takes: Arc<Mutex<Duration>>,
}

impl Default for LoginServer {
    fn default() -> Self {
        Self::responding([])
    }
}

impl LoginServer {
    pub(crate) fn responding<const N: usize>(responses: [Response; N]) -> Self {
        let left = Arc::new(Mutex::new(VecDeque::from(responses)));
        let takes = Arc::<Mutex<Duration>>::default();
        let (next, delay) = (Arc::clone(&left), Arc::clone(&takes));
        let server = ScriptedServer::new(move |_| {
            let next = next.lock().unwrap().pop_front();
            let response = match next.expect("it was asked too often") {
                BROKEN => ScriptedResponse::reset(),
                (status, body) => ScriptedResponse::new(status).body(body),
            };
            response.after(*delay.lock().unwrap())
        });
        Self {
            server,
            left,
            takes,
        }
    }

    /// Delays each response by this time.
    pub(crate) fn taking(self, takes: Duration) -> Self {
        *self.takes.lock().unwrap() = takes;
        self
    }

    /// Builds a public client of this server.
    pub(crate) fn client(&self) -> Client {
        Client::public(URL, ID).unwrap().transport(self.transport())
    }

    pub(crate) fn transport(&self) -> ScriptedServer {
        self.server.clone()
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.server.requests().len()
    }

    /// Returns the path and the parameters of each request.
    pub(crate) fn asked(&self) -> Vec<(String, Form)> {
        let asked = self.server.requests().into_iter();
        asked.map(|it| (it.path().to_owned(), it.form())).collect()
    }

    /// Returns the seconds from `start` to each request.
    pub(crate) fn seconds_since(&self, start: Instant) -> Vec<u64> {
        let asked = self.server.requests().into_iter();
        asked
            .map(|it| (it.received_at() - start).as_secs())
            .collect()
    }

    /// Returns whether every response of the script was sent.
    pub(crate) fn is_done(&self) -> bool {
        self.left.lock().unwrap().is_empty()
    }
}

pub(crate) fn form<const N: usize>(params: [(&str, &str); N]) -> Form {
    let owned = params.map(|(name, value)| (name.to_owned(), value.to_owned()));
    owned.into()
}
