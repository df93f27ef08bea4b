//! An in-memory Vault. Its statuses and its texts are those of OpenBao 2.7.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tower_auth::platform::vault::{Login, Server};
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer};

pub(crate) const URL: &str = "https://vault.example.com:8200";
pub(crate) const ROLE_ID: &str = "the-role-id";
pub(crate) const SECRET_ID: &str = "s3cret \"id\" of the role";

#[derive(Clone)]
pub(crate) struct VaultServer {
    server: ScriptedServer,
    pub(crate) state: Arc<Mutex<State>>,
}

pub(crate) struct State {
    /// The valid tokens.
    tokens: HashMap<String, Lease>,
    logins: usize,
    /// The lease of a new token in seconds. 0 means that the token never expires.
    pub(crate) ttl: u64,
    pub(crate) max_ttl: u64,
    pub(crate) is_renewable: bool,
    pub(crate) token_type: &'static str,
    /// Whether tokens lack the policy `default`.
    pub(crate) denies_self: bool,
}

#[derive(Clone, Copy)]
struct Lease {
    issued: Instant,
    seconds: u64,
    started: Instant,
}

impl Lease {
    fn ends(self) -> Option<Instant> {
        (self.seconds > 0).then(|| self.started + Duration::from_secs(self.seconds))
    }
}

fn refusal(status: u16, error: &str) -> ScriptedResponse {
    ScriptedResponse::json(status, json!({ "errors": [error] }))
}

impl State {
    fn is_valid(&self, token: &str) -> bool {
        let ends = self.tokens.get(token).map(|lease| lease.ends());
        ends.is_some_and(|ends| ends.is_none_or(|ends| Instant::now() < ends))
    }

    fn issued(&self, token: &str) -> ScriptedResponse {
        let lease = self.tokens[token];
        let auth = json!({
            "client_token": token,
            "accessor": "the-accessor",
            "policies": ["default", "reports"],
            "metadata": { "role_name": "reports" },
            "lease_duration": lease.seconds,
            "renewable": self.is_renewable,
            "token_type": self.token_type,
        });
        let body = json!({
            "request_id": "1", "lease_id": "", "renewable": false, "lease_duration": 0,
            "data": null, "wrap_info": null, "warnings": null, "auth": auth,
        });
        ScriptedResponse::json(200, body)
    }

    fn log_in(&mut self) -> ScriptedResponse {
        self.logins += 1;
        let token = format!("hvs.token-{}", self.logins);
        let now = Instant::now();
        let lease = Lease {
            issued: now,
            seconds: self.ttl,
            started: now,
        };
        self.tokens.insert(token.clone(), lease);
        self.issued(&token)
    }

    fn renew(&mut self, token: &str) -> ScriptedResponse {
        let (ttl, max_ttl) = (self.ttl, self.max_ttl);
        let lease = self.tokens.get_mut(token).unwrap();
        lease.started = Instant::now();
        let age = lease.issued.elapsed().as_secs();
        lease.seconds = ttl.min(max_ttl.saturating_sub(age));
        self.issued(token)
    }

    fn look_up(&self, token: &str) -> ScriptedResponse {
        let ends = self.tokens[token].ends();
        let left = ends.map(|ends| ends.duration_since(Instant::now()).as_secs());
        let data = json!({
            "id": token,
            "ttl": left.unwrap_or_default(),
            "expire_time": ends.map(|_| "2026-11-28T22:00:39Z"),
            "renewable": self.is_renewable,
        });
        ScriptedResponse::json(200, json!({ "data": data, "auth": null }))
    }

    fn respond(&mut self, request: &RecordedRequest) -> ScriptedResponse {
        let path = request.path().strip_prefix("/v1/").unwrap();
        if path.ends_with("/login") {
            let body: Value = serde_json::from_slice(request.body()).unwrap();
            return match (&body["role_id"], &body["secret_id"], &body["jwt"]) {
                (_, _, Value::String(_)) => self.log_in(),
                (role, secret, _) if role == ROLE_ID && secret == SECRET_ID => self.log_in(),
                _ => refusal(400, "invalid role or secret ID"),
            };
        }
        let token = request.header("x-vault-token").unwrap_or_default();
        if !self.is_valid(token) || (self.denies_self && path.ends_with("-self")) {
            return refusal(403, "permission denied");
        }
        match path {
            "auth/token/renew-self" => self.renew(token),
            "auth/token/lookup-self" => self.look_up(token),
            "auth/token/revoke-self" => {
                self.tokens.remove(token);
                ScriptedResponse::new(204)
            }
            path if path.starts_with("secret/data/allowed") => ScriptedResponse::json(200, "{}"),
            _ => refusal(403, "1 error occurred:\n\t* permission denied\n\n"),
        }
    }
}

impl VaultServer {
    pub(crate) fn new() -> Self {
        let state = Arc::new(Mutex::new(State {
            tokens: HashMap::new(),
            logins: 0,
            ttl: 3600,
            max_ttl: 32 * 24 * 3600,
            is_renewable: true,
            token_type: "service",
            denies_self: false,
        }));
        let shared = Arc::clone(&state);
        let server = ScriptedServer::new(move |request| shared.lock().unwrap().respond(request));
        Self { server, state }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    pub(crate) fn revoke_all(&self) {
        self.set(|state| state.tokens.clear());
    }

    /// The server as the inner service of a layer, and as the transport of a source.
    pub(crate) fn service(&self) -> ScriptedServer {
        self.server.clone()
    }

    pub(crate) fn server(&self) -> Server {
        Server::new(URL).unwrap().transport(self.service())
    }

    pub(crate) fn login(&self) -> Login {
        Login::app_role(self.server(), ROLE_ID, SECRET_ID)
    }

    /// Returns the last part of the path of each request for a token.
    pub(crate) fn asked(&self) -> Vec<String> {
        let requests = self.server.requests();
        let auth = requests
            .iter()
            .filter(|request| request.path().starts_with("/v1/auth/"));
        auth.map(|request| request.path().rsplit('/').next().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.asked().iter().filter(|asked| *asked == what).count()
    }
}
