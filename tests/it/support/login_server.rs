//! An authorization server in memory that people log in at: it responds by a script, in turn, and
//! keeps what it was asked and when.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tower_auth::BoxError;
use tower_auth::oauth2::{Client, Transport};

use crate::support::serving::{self, params, serving};
use crate::support::token_server::{ID, URL};

pub(crate) type Form = Vec<(String, String)>;

/// A response: a status and a body.
pub(crate) type ScriptedResponse = (u16, &'static str);

/// Both tokens.
pub(crate) const ISSUED: ScriptedResponse = (
    200,
    r#"{"access_token":"first","refresh_token":"refresh","token_type":"Bearer","expires_in":3600}"#,
);

/// What a refresh brings after that.
pub(crate) const REFRESHED: ScriptedResponse = (
    200,
    r#"{"access_token":"second","token_type":"Bearer","expires_in":3600}"#,
);

/// The line is cut before a response.
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

    /// It responds after so long.
    pub(crate) fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    /// A public client of this server.
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

    /// The paths that were asked, and the parameters.
    pub(crate) fn asked(&self) -> Vec<(String, Form)> {
        let asked = self.asked.lock().unwrap();
        let asked = asked
            .iter()
            .map(|(path, form, _)| (path.clone(), form.clone()));
        asked.collect()
    }

    /// The seconds from `start` to each time that it was asked.
    pub(crate) fn seconds_since(&self, start: Instant) -> Vec<u64> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .map(|(_, _, at)| (*at - start).as_secs())
            .collect()
    }

    /// All responses of its script were asked for.
    pub(crate) fn is_done(&self) -> bool {
        self.responses.lock().unwrap().is_empty()
    }
}

pub(crate) fn form<const N: usize>(params: [(&str, &str); N]) -> Form {
    let owned = params.map(|(name, value)| (name.to_owned(), value.to_owned()));
    owned.into()
}
