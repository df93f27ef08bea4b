//! A server that requires Digest authentication (RFC 7616) with SHA-256, and accepts one nonce at a
//! time.

use std::sync::{Arc, Mutex};

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use sha2::{Digest, Sha256};
use tower_auth_test::{Loopback, RecordedRequest, ScriptedResponse, ScriptedServer};

pub(crate) const USER: &str = "Mufasa";
pub(crate) const PASSWORD: &str = "Circle of Life";

pub(crate) struct DigestServer {
    url: String,
    _running: Loopback,
    state: Arc<Mutex<Nonce>>,
}

struct Nonce {
    number: u32,
    /// The nonce counts (`nc`) of the requests, in order of arrival.
    counts: Vec<u32>,
    password: &'static str,
    statuses: Vec<u16>,
}

impl DigestServer {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(Nonce {
            number: 1,
            counts: Vec::new(),
            password: PASSWORD,
            statuses: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        let server = ScriptedServer::new(move |request| shared.lock().unwrap().respond(request));
        let running = server.serve().await.unwrap();
        Self {
            url: running.origin(),
            _running: running,
            state,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Replaces the nonce. Requests with the old nonce are refused as stale.
    pub(crate) fn expire_nonce(&self) {
        let mut nonce = self.state.lock().unwrap();
        nonce.number += 1;
        nonce.counts.clear();
    }

    pub(crate) fn set_password(&self, password: &'static str) {
        self.state.lock().unwrap().password = password;
    }

    /// Returns the nonce counts (`nc`) since the nonce was last replaced, in order of arrival.
    pub(crate) fn counts(&self) -> Vec<u32> {
        self.state.lock().unwrap().counts.clone()
    }

    /// Returns the status of each response since the last call.
    pub(crate) fn take_statuses(&self) -> Vec<u16> {
        std::mem::take(&mut self.state.lock().unwrap().statuses)
    }
}

impl Nonce {
    fn respond(&mut self, request: &RecordedRequest) -> ScriptedResponse {
        let (status, response) = match self.check(request) {
            Ok(()) => (200, ScriptedResponse::new(200).body("welcome")),
            Err(is_stale) => {
                let challenge = format!(
                    "Digest realm=\"the \\\"pride\\\"\", qop=\"auth, auth-int\", algorithm=SHA-256, \
                     nonce=\"nonce-{}\", opaque=\"F\"{}",
                    self.number,
                    if is_stale { ", stale=TRUE" } else { "" }
                );
                let response = ScriptedResponse::new(401);
                (401, response.header(WWW_AUTHENTICATE.as_str(), challenge))
            }
        };
        self.statuses.push(status);
        response
    }

    /// Checks the credential. An error says whether only the nonce is wrong.
    fn check(&mut self, request: &RecordedRequest) -> Result<(), bool> {
        let (method, target) = (request.method(), request.uri().to_string());
        let sent = request.header(AUTHORIZATION.as_str()).ok_or(false)?;
        let sent = sent.strip_prefix("Digest ").unwrap();
        let param = |name: &str| {
            let params = sent.split(", ").filter_map(|param| param.split_once('='));
            let mut values = params.filter(|(sent, _)| *sent == name);
            let value = values
                .next()
                .unwrap_or_else(|| panic!("no {name}: {sent}"))
                .1;
            value.trim_matches('"').to_owned()
        };
        assert_eq!(
            (param("username"), param("uri")),
            (USER.into(), target.clone())
        );
        assert_eq!(
            (param("opaque"), param("algorithm")),
            ("F".into(), "SHA-256".into())
        );
        let count = param("nc");
        let (a1, a2) = (
            hash(&format!("{USER}:the \"pride\":{}", self.password)),
            hash(&format!("{method}:{target}")),
        );
        let (nonce, cnonce) = (param("nonce"), param("cnonce"));
        let expected = hash(&format!("{a1}:{nonce}:{count}:{cnonce}:auth:{a2}"));
        if param("response") != expected {
            return Err(false);
        }
        if nonce != format!("nonce-{}", self.number) {
            return Err(true);
        }
        let count = u32::from_str_radix(&count, 16).unwrap();
        assert!(!self.counts.contains(&count), "{count} was used before");
        self.counts.push(count);
        Ok(())
    }
}

/// Returns the SHA-256 hash in hexadecimal digits.
fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
