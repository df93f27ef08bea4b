//! An in-memory token endpoint that responds to each form as the test says, and records every form.

use std::future::ready;
use std::sync::{Arc, Mutex};

use tower_auth::oauth2::{Client, Transport};

use crate::support::serving::{params, respond, serving};
use crate::support::token_server::{ID, SECRET, URL};

/// The parameters of one request, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) path: String,
    pub(crate) pairs: Vec<(String, String)>,
}

impl Form {
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

type Respond = dyn Fn(usize, &Form) -> (u16, String) + Send + Sync;

#[derive(Clone)]
pub(crate) struct FormServer {
    respond: Arc<Respond>,
    asked: Arc<Mutex<Vec<Form>>>,
}

impl FormServer {
    /// Builds a server whose closure responds to the nth form, counted from 1, with a status and a
    /// body.
    pub(crate) fn new(
        respond: impl Fn(usize, &Form) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        Self {
            respond: Arc::new(respond),
            asked: Arc::default(),
        }
    }

    /// Issues `issued-1`, `issued-2`, ….
    pub(crate) fn issuing() -> Self {
        Self::new(|number, _| (200, issued(number)))
    }

    pub(crate) fn transport(&self) -> impl Transport + use<> {
        let server = self.clone();
        serving(move |head, body| {
            let form = Form {
                path: head.uri.path().to_owned(),
                pairs: params(&body),
            };
            let number = {
                let mut asked = server.asked.lock().unwrap();
                asked.push(form.clone());
                asked.len()
            };
            let (status, body) = (server.respond)(number, &form);
            ready(Ok(respond(status, body)))
        })
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
        self.asked.lock().unwrap().clone()
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
