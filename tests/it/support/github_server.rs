//! A GitHub that is as strict as its documentation: the REST API of apps (version 2022-11-28), and
//! the ID tokens of Actions. The official client `@octokit/auth-app` accepts this server, too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer};

/// The app's client id, and its app id.
pub(crate) const CLIENT_ID: &str = "Iv23liExampleClient";
pub(crate) const APP_ID: &str = "4711";

/// The only installation: of the organization `octo-org`, with the repositories below.
pub(crate) const INSTALLATION: u64 = 12_345_678;

/// The names and the ids of the installation's repositories.
const REPOSITORIES: [(&str, u64); 2] = [("hello-world", 1_296_269), ("secret-plans", 1_296_270)];

/// The permissions of the installation.
const PERMISSIONS: [(&str, &str); 3] = [
    ("contents", "write"),
    ("issues", "write"),
    ("metadata", "read"),
];

#[derive(Clone)]
pub(crate) struct GitHub {
    pub(crate) server: ScriptedServer,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The public half of the app's key.
    public_key: String,
    /// How far GitHub's clock is ahead, in seconds.
    clock: i64,
    /// The time of the current request by GitHub's clock, in seconds since 1970.
    date: u64,
    tokens: Vec<String>,
}

impl GitHub {
    /// Makes a GitHub that knows the app by this public key.
    pub(crate) fn new(public_key: &str) -> Self {
        let state = Arc::new(Mutex::new(State {
            public_key: public_key.to_owned(),
            ..State::default()
        }));
        let own = Arc::clone(&state);
        let server = ScriptedServer::new(move |request| respond(&mut own.lock().unwrap(), request));
        Self { server, state }
    }

    /// Sets how far GitHub's clock is ahead, in seconds.
    pub(crate) fn set_clock(&self, ahead: i64) {
        self.state.lock().unwrap().clock = ahead;
    }

    /// Returns the tokens that GitHub has issued.
    pub(crate) fn issued(&self) -> Vec<String> {
        self.state.lock().unwrap().tokens.clone()
    }

    /// Revokes all tokens.
    pub(crate) fn revoke_all(&self) {
        self.state.lock().unwrap().tokens.clear();
    }

    /// Returns the methods and the paths of all requests.
    pub(crate) fn asked(&self) -> Vec<String> {
        let requests = self.server.requests().into_iter();
        let line =
            |request: RecordedRequest| format!("{} {}", request.method(), request.uri().path());
        requests.map(line).collect()
    }
}

fn respond(state: &mut State, request: &RecordedRequest) -> ScriptedResponse {
    state.date = state.now();
    let now = state.date;
    let (status, body) = match answer(state, request) {
        Ok(answer) => answer,
        Err((status, message)) => {
            let documentation = "https://docs.github.com/rest";
            let body = json!({"message": message, "documentation_url": documentation, "status": status.to_string()});
            (status, body)
        }
    };
    let date = UNIX_EPOCH + Duration::from_secs(now);
    ScriptedResponse::json(status, body)
        .header("date", httpdate::fmt_http_date(date))
        .header("x-ratelimit-limit", "5000")
        .header("x-ratelimit-remaining", "4999")
        .header("x-ratelimit-reset", (now + 3600).to_string())
}

type Refusal = (u16, &'static str);

fn answer(state: &mut State, request: &RecordedRequest) -> Result<(u16, Value), Refusal> {
    if request.header("user-agent").unwrap_or_default().is_empty() {
        return Err((403, "Request forbidden by administrative rules"));
    }
    let accept = request.header("accept").unwrap_or_default();
    let is_json = accept.ends_with("+json") || accept.ends_with(".json");
    if !accept.starts_with("application/vnd.github") || !is_json {
        return Err((415, "Unsupported 'Accept' header"));
    }
    if !matches!(
        request.header("x-github-api-version"),
        None | Some("2022-11-28")
    ) {
        return Err((400, "The API version is not supported"));
    }
    let method = request.method().as_str();
    let path: Vec<&str> = request.path().trim_start_matches('/').split('/').collect();
    match (method, path.as_slice()) {
        ("GET", ["repos", "octo-org", name, "installation"]) => {
            state.check_jwt(request)?;
            let is_known = REPOSITORIES.iter().any(|(known, _)| known == name);
            is_known.then(installation).ok_or((404, "Not Found"))
        }
        ("GET", ["orgs" | "users", "octo-org", "installation"]) => {
            state.check_jwt(request)?;
            Ok(installation())
        }
        ("GET", ["repos" | "orgs" | "users", .., "installation"]) => {
            state.check_jwt(request)?;
            Err((404, "Not Found"))
        }
        ("POST", ["app", "installations", id, "access_tokens"]) => {
            state.check_jwt(request)?;
            if *id != INSTALLATION.to_string() {
                return Err((404, "Not Found"));
            }
            state.issue(request)
        }
        // The API that the tokens are for.
        ("GET", ["installation", "repositories"]) => {
            let (_, sent) = authorization(request).unwrap_or_default();
            match state.tokens.iter().any(|token| token == sent) {
                true => Ok((200, json!({"total_count": 0, "repositories": []}))),
                false => Err((401, "Bad credentials")),
            }
        }
        _ => Err((404, "Not Found")),
    }
}

fn installation() -> (u16, Value) {
    (
        200,
        json!({"id": INSTALLATION, "account": {"login": "octo-org", "id": 1}, "app_id": 4711}),
    )
}

/// Returns the scheme and the credential.
fn authorization(request: &RecordedRequest) -> Option<(&str, &str)> {
    request.header("authorization")?.split_once(' ')
}

impl State {
    fn now(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs().checked_add_signed(self.clock).unwrap()
    }

    fn check_jwt(&self, request: &RecordedRequest) -> Result<(), Refusal> {
        let undecodable = (401, "A JSON web token could not be decoded");
        let (scheme, jwt) = authorization(request).ok_or(undecodable)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(undecodable);
        }
        let key = DecodingKey::from_rsa_pem(self.public_key.as_bytes()).unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_exp = false;
        validation.set_required_spec_claims::<&str>(&[]);
        let claims = decode::<Value>(jwt, &key, &validation);
        let claims = claims.map_err(|_| undecodable)?.claims;
        let id = claims["iss"].as_str().map(str::to_owned);
        let id = id.unwrap_or_else(|| claims["iss"].to_string());
        if id != CLIENT_ID && id != APP_ID {
            return Err((
                401,
                "'Issuer' claim ('iss') must be an Integer or a client id",
            ));
        }
        let now = self.date;
        match claims["exp"].as_u64() {
            Some(exp) if exp > now + 600 => {
                return Err((
                    401,
                    "'Expiration time' claim ('exp') is too far in the future",
                ));
            }
            Some(exp) if exp > now => {}
            _ => {
                return Err((
                    401,
                    "'Expiration time' claim ('exp') must be a numeric value representing the \
                     future time at which the assertion expires",
                ));
            }
        }
        match claims["iat"].as_u64() {
            Some(iat) if iat <= now => Ok(()),
            _ => Err((
                401,
                "'Issued at' claim ('iat') must be an Integer representing the time that the \
                 assertion was issued",
            )),
        }
    }

    fn issue(&mut self, request: &RecordedRequest) -> Result<(u16, Value), Refusal> {
        let wanted: Wanted = match request.body().is_empty() {
            true => Wanted::default(),
            false => serde_json::from_slice(request.body())
                .map_err(|_| (400, "Problems parsing JSON"))?,
        };
        let mut selected = Vec::new();
        for name in &wanted.repositories {
            let found = REPOSITORIES.iter().find(|(known, _)| known == name);
            selected
                .push(found.ok_or((422, "There is at least one repository that does not exist"))?);
        }
        for id in &wanted.repository_ids {
            let found = REPOSITORIES.iter().find(|(_, known)| known == id);
            selected
                .push(found.ok_or((422, "There is at least one repository that does not exist"))?);
        }
        let granted: BTreeMap<&str, &str> = PERMISSIONS.into_iter().collect();
        for (name, access) in &wanted.permissions {
            let most = granted.get(name.as_str()).copied();
            if most != Some(access) && !(most == Some("write") && access == "read") {
                return Err((
                    422,
                    "The permissions requested are not granted to this installation.",
                ));
            }
        }
        let token = format!("ghs_{:032x}{:04x}", fastrand::u128(..), self.tokens.len());
        self.tokens.push(token.clone());
        let permissions = match wanted.permissions.is_empty() {
            true => json!(granted),
            false => json!(wanted.permissions),
        };
        let selection = if selected.is_empty() {
            "all"
        } else {
            "selected"
        };
        let mut body = json!({
            "token": token,
            "expires_at": rfc3339(self.date + 3600),
            "permissions": permissions,
            "repository_selection": selection,
        });
        if !selected.is_empty() {
            let repositories = selected
                .iter()
                .map(|(name, id)| json!({"id": id, "name": name}));
            body["repositories"] = repositories.collect();
        }
        Ok((201, body))
    }
}

/// The body of a request for a token.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    repositories: Vec<String>,
    repository_ids: Vec<u64>,
    permissions: BTreeMap<String, String>,
}

/// Returns a time as GitHub writes it, such as `2016-07-11T22:14:10Z`.
fn rfc3339(seconds: u64) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    // `Mon, 11 Jul 2016 22:14:10 GMT`
    let [_, day, month, year, time, _] = date.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{date}");
    };
    let month = MONTHS.find(month).unwrap() / 3 + 1;
    format!("{year}-{month:02}-{day}T{time}Z")
}
