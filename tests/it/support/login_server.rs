//! An in-memory authorization server for user logins. It responds from a script and records each
//! request with its time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tower_auth::BoxError;
use tower_auth::oauth2::{Client, Transport};

use crate::support::serving::{self, params, serving};
use crate::support::token_server::{ID, URL};

pub(crate) type Form = Vec<(String, String)>;

/// The status and the body of a response.
pub(crate) type ScriptedResponse = (u16, &'static str);

/// A token response with an access token and a refresh token.
pub(crate) const ISSUED: ScriptedResponse = (
    200,
    r#"{"access_token":"first","refresh_token":"refresh","token_type":"Bearer","expires_in":3600}"#,
);

/// The response to the refresh that follows.
pub(crate) const REFRESHED: ScriptedResponse = (
    200,
    r#"{"access_token":"second","token_type":"Bearer","expires_in":3600}"#,
);

/// The connection breaks before a response.
pub(crate) const BROKEN: ScriptedResponse = (0, "");

#[derive(Clone, Default)]
pub(crate) struct LoginServer {
    responses: Arc<Mutex<VecDeque<ScriptedResponse>>>,
    asked: Arc<Mutex<Vec<(String, Form, Instant)>>>,
    takes: Duration,
}

impl LoginServer {
    pub(crate) fn responding<const N: usize>(responses: [ScriptedResponse; N]) -> Self {
        Self {
            responses: Arc::new(Mutex::new(responses.into())),
            ..Self::default()
        }
    }

    /// Delays each response by this time.
    pub(crate) fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    /// Builds a public client of this server.
    pub(crate) fn client(&self) -> Client {
        Client::public(URL, ID).unwrap().transport(self.transport())
    }

    pub(crate) fn transport(&self) -> impl Transport + use<> {
        let server = self.clone();
        serving(move |head, body| {
            let asked = (head.uri.path().to_owned(), params(&body), Instant::now());
            server.asked.lock().unwrap().push(asked);
            server.clone().respond()
        })
    }

    async fn respond(self) -> Result<serving::ServerResponse, BoxError> {
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        let next = self.responses.lock().unwrap().pop_front();
        match next.expect("it was asked too often") {
            BROKEN => Err("the line is cut".into()),
            (status, body) => Ok(serving::respond(status, body)),
        }
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Returns the path and the parameters of each request.
    pub(crate) fn asked(&self) -> Vec<(String, Form)> {
        let asked = self.asked.lock().unwrap();
        let asked = asked
            .iter()
            .map(|(path, form, _)| (path.clone(), form.clone()));
        asked.collect()
    }

    /// Returns the seconds from `start` to each request.
    pub(crate) fn seconds_since(&self, start: Instant) -> Vec<u64> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .map(|(_, _, at)| (*at - start).as_secs())
            .collect()
    }

    /// Returns whether every response of the script was sent.
    pub(crate) fn is_done(&self) -> bool {
        self.responses.lock().unwrap().is_empty()
    }
}

pub(crate) fn form<const N: usize>(params: [(&str, &str); N]) -> Form {
    let owned = params.map(|(name, value)| (name.to_owned(), value.to_owned()));
    owned.into()
}
