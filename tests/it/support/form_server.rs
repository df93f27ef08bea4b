//! An in-memory token endpoint that responds to each form as the test says, and records every form.

use tower_auth::oauth2::Client;
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer};

use crate::support::token_server::{ID, SECRET, URL};

/// The parameters of one request, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) path: String,
    pub(crate) pairs: Vec<(String, String)>,
}

impl Form {
    fn of(request: &RecordedRequest) -> Self {
        Self {
            path: request.path().to_owned(),
            pairs: request.form(),
        }
    }

    /// Returns the only parameter with this name.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> &str {
        let [value] = self.all(name)[..] else {
            panic!("not one `{name}`: {self:?}");
        };
        value
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = self.pairs.iter().filter(|(other, _)| other == name);
        same.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.pairs.iter().map(|(name, _)| name.as_str()).collect()
    }
}

#[derive(Clone)]
pub(crate) struct FormServer {
    server: ScriptedServer,
}

impl FormServer {
    /// Builds a server whose closure responds to the nth form, counted from 1, with a status and a
    /// body.
    pub(crate) fn new(
        respond: impl Fn(usize, &Form) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let server = ScriptedServer::new(move |request| {
            let (status, body) = respond(request.number(), &Form::of(request));
            ScriptedResponse::new(status).body(body)
        });
        Self { server }
    }

    /// Issues `issued-1`, `issued-2`, ….
    pub(crate) fn issuing() -> Self {
        Self::new(|number, _| (200, issued(number)))
    }

    pub(crate) fn transport(&self) -> ScriptedServer {
        self.server.clone()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(URL, ID, SECRET)
            .unwrap()
            .transport(self.transport())
    }

    pub(crate) fn public(&self) -> Client {
        Client::public(URL, ID).unwrap().transport(self.transport())
    }

    pub(crate) fn anonymous(&self) -> Client {
        Client::anonymous(URL).unwrap().transport(self.transport())
    }

    pub(crate) fn forms(&self) -> Vec<Form> {
        self.server.requests().iter().map(Form::of).collect()
    }

    /// Returns the form of the only request.
    #[track_caller]
    pub(crate) fn form(&self) -> Form {
        let forms = self.forms();
        assert_eq!(forms.len(), 1, "{forms:?}");
        forms[0].clone()
    }
}

pub(crate) fn issued(number: usize) -> String {
    format!(r#"{{"access_token":"issued-{number}","token_type":"Bearer","expires_in":3600}}"#)
}

pub(crate) fn refusal(code: &str) -> (u16, String) {
    (400, format!(r#"{{"error":"{code}"}}"#))
}
