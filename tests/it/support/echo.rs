//! An in-memory server that works for some requests and then echoes what it was sent. The echo is
//! in every part of a response: whole, in pieces, and in other encodings.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower_auth::BoxError;
use tower_service::Service;

use crate::support::secret_finder::shows_a_secret;

/// The server for all requests of one source, whatever the grant.
#[derive(Clone, Debug)]
pub(crate) struct Echo {
    /// How many requests get a working response.
    works_for: usize,
    /// Which of the odd responses follows.
    odd: usize,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    asked: AtomicUsize,
    /// How many odd responses exist for the request.
    odd: AtomicUsize,
    verifiers: Mutex<Vec<String>>,
}

/// The response, or `None` if the connection breaks.
type ServerResponse = Option<Response<Full<Bytes>>>;

thread_local! {
    /// A cache of the odd responses to each request. A request has hundreds, and every round
    /// repeats it.
    static ODD_RESPONSES: RefCell<HashMap<(String, bool), Vec<ServerResponse>>> = RefCell::default();
}

const FIRST: &str = "planted-access-0";
const REFRESH: &str = "planted-refresh";
const DEVICE_CODE: &str = "planted-device";
const COOKIE: &str = "planted-cookie";

impl Echo {
    pub(crate) fn new(works_for: usize, odd: usize) -> Self {
        Self {
            works_for,
            odd,
            seen: Arc::default(),
        }
    }

    /// Returns the largest number of odd responses to one request, or 0 if all requests worked.
    pub(crate) fn odd_responses(&self) -> usize {
        self.seen.odd.load(Ordering::SeqCst)
    }

    /// Returns the `code_verifier` values, which are random (RFC 7636 §4.1).
    #[cfg(feature = "authorization-code")]
    pub(crate) fn verifiers(&self) -> Vec<String> {
        self.seen.verifiers.lock().unwrap().clone()
    }

    fn respond(&self, parts: &Parts, body: &str) -> ServerResponse {
        let sent = Sent { parts, body };
        let verifier = sent.param("code_verifier");
        self.seen.verifiers.lock().unwrap().extend(verifier);
        let number = self.seen.asked.fetch_add(1, Ordering::SeqCst);
        if number < self.works_for {
            return Some(working(parts, number));
        }
        // Responses that differ only in spelling are tested only for the first two requests.
        let all_spellings = self.works_for < 2;
        ODD_RESPONSES.with_borrow_mut(|known| {
            // A request with a random part never repeats, so its entry would stay unused.
            if known.len() == 16 {
                known.clear();
            }
            let responses = known
                .entry((sent.key(), all_spellings))
                .or_insert_with(|| odd_responses(&sent, all_spellings));
            self.seen.odd.fetch_max(responses.len(), Ordering::SeqCst);
            responses[self.odd % responses.len()].clone()
        })
    }
}

impl Service<Request<Full<Bytes>>> for Echo {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let response = echo.respond(&parts, std::str::from_utf8(&body)?);
            response.ok_or_else(|| std::io::Error::other("the line is cut").into())
        })
    }
}

struct Sent<'a> {
    parts: &'a Parts,
    body: &'a str,
}

impl Sent<'_> {
    /// Returns the whole request as a key. `Debug` of the headers would leave out the secrets.
    fn key(&self) -> String {
        let headers = self.parts.headers.iter();
        let headers: Vec<_> = headers
            .map(|(name, value)| (name, value.as_bytes()))
            .collect();
        format!("{} {headers:?} {}", self.parts.uri, self.body)
    }

    /// Returns each text of the request that contains a secret, whole and in parts.
    fn texts(&self) -> BTreeSet<String> {
        let mut texts = BTreeSet::from([self.body.to_owned(), self.parts.uri.to_string()]);
        let query = self.parts.uri.query().unwrap_or_default();
        let body = Some(self.body).filter(|body| !body.starts_with('{'));
        for form in [query, body.unwrap_or_default()] {
            for (name, value) in form_urlencoded::parse(form.as_bytes()) {
                texts.extend([name.into_owned(), value.into_owned()]);
            }
        }
        leaves(
            &serde_json::from_str(self.body).unwrap_or_default(),
            &mut texts,
        );
        for value in self.parts.headers.values() {
            let value = value.to_str().unwrap();
            texts.insert(value.to_owned());
            texts.extend(value.split([' ', ';', '=']).map(str::to_owned));
            if let Some(pair) = value.strip_prefix("Basic ") {
                let pair = String::from_utf8(STANDARD.decode(pair).unwrap()).unwrap();
                texts.extend(form_urlencoded::parse(pair.as_bytes()).map(|it| it.0.into()));
                texts.extend(pair.split(':').map(str::to_owned));
            }
        }
        texts.retain(|text| shows_a_secret(text));
        texts.extend(self.param("code_verifier"));
        texts
    }

    fn param(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.body.as_bytes());
        let found = pairs.find(|(sent, _)| sent == name);
        found.map(|(_, value)| value.into_owned())
    }
}

fn leaves(json: &Value, texts: &mut BTreeSet<String>) {
    match json {
        Value::String(text) => drop(texts.insert(text.clone())),
        Value::Array(values) => values.iter().for_each(|value| leaves(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| leaves(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the text in the encodings that other programs use.
fn spellings(text: &str) -> Vec<String> {
    let each = |spell: &dyn Fn(char) -> String| -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let one = |c: char| if is_plain(c) { c.into() } else { spell(c) };
        text.chars().map(one).collect()
    };
    let percent = |c: char| {
        let bytes = c.to_string().into_bytes();
        bytes
            .iter()
            .map(|b| format!("%{b:02X}"))
            .collect::<String>()
    };
    let form: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let json = Value::from(text).to_string();
    vec![
        text.to_owned(),
        form.clone(),
        form.to_lowercase(),
        each(&percent),
        each(&|c| percent(c).to_lowercase()),
        json.clone(),
        json.replace('/', "\\/"),
        each(&|c| match c {
            '&' => "&amp;".into(),
            '<' => "&lt;".into(),
            '>' => "&gt;".into(),
            '"' => "&quot;".into(),
            '\'' => "&#39;".into(),
            c => c.into(),
        }),
    ]
}

fn odd_responses(sent: &Sent<'_>, all_spellings: bool) -> Vec<ServerResponse> {
    // A request without a secret needs odd responses too, such as a response that is cut off.
    let mut responses = vec![
        None,
        text(200, "{\"access_token\":\"planted"),
        text(200, "<html>planted</html>"),
    ];
    for sent in sent.texts() {
        // Only single values are sent back in every encoding. A whole form or URL is already
        // encoded.
        let is_value = all_spellings
            && !sent.contains('%')
            && !sent.contains("client_id=")
            && !sent.starts_with(['{', 'h']);
        for spelled in spellings(&sent).into_iter().filter(|_| is_value) {
            let refusal = json!({ "error": spelled, "error_description": spelled });
            responses.push(json(400, &refusal));
        }
        responses.extend(around(&sent));
    }
    // Each response both issues tokens and refuses. Its description repeats what it issues.
    let told = match sent.parts.uri.path() {
        "/device" => vec![DEVICE_CODE],
        _ => vec![FIRST, REFRESH, COOKIE],
    };
    for issued in told {
        for status in [200, 400] {
            let mut both = issue(0);
            both["error"] = Value::from("invalid_request");
            both["error_description"] = Value::from(format!("this is it: {issued}"));
            let cookie = format!("sid={COOKIE}; Path=/");
            responses.push(with(json(status, &both), SET_COOKIE, &cookie));
        }
    }
    responses
}

/// Returns responses that contain the text in every part that a response has.
fn around(sent: &str) -> Vec<ServerResponse> {
    let issued = |name: &str, value: Value| {
        let mut issued = issue(0);
        issued[name] = value;
        json(200, &issued)
    };
    let said = |code: &str| json!({ "error": code, "error_description": sent });
    vec![
        json(401, &said("invalid_client")),
        json(400, &said("invalid_grant")),
        json(400, &said("use_dpop_nonce")),
        json(200, &said("invalid_request")),
        json(
            500,
            &json!({ "error": { "message": sent }, "message": sent }),
        ),
        json(200, &json!({ sent: sent })),
        json(200, &json!([sent])),
        text(200, sent),
        with(text(200, sent), CONTENT_TYPE, sent),
        with(
            text(403, &format!("<html>{sent}")),
            CONTENT_TYPE,
            "text/html",
        ),
        with(text(302, sent), LOCATION, sent),
        with(text(429, sent), RETRY_AFTER, sent),
        with(json(401, &said(sent)), WWW_AUTHENTICATE, sent),
        with(json(200, &issue(0)), SET_COOKIE, sent),
        issued("token_type", sent.into()),
        issued("issued_token_type", sent.into()),
        issued("expires_in", sent.into()),
        issued("interval", sent.into()),
        issued("scope", sent.into()),
        issued("scope", [sent].into_iter().collect()),
        issued("access_token", format!("planted\n{sent}").into()),
        issued("refresh_token", [sent].into_iter().collect()),
        issued("user_code", format!("{sent}\n").into()),
        issued("verification_uri", sent.into()),
        issued(
            "verification_uri",
            format!("https://{sent}@example.com/").into(),
        ),
        issued(
            "verification_uri",
            "https://id.example.com/?code=planted".into(),
        ),
    ]
}

/// Returns a working response to any request.
fn working(parts: &Parts, number: usize) -> Response<Full<Bytes>> {
    let path = parts.uri.path();
    let response = if path.contains("oauth-protected-resource") {
        json(
            200,
            &json!({
                "resource": "https://api.example.com",
                "authorization_servers": ["https://id.example.com"],
            }),
        )
    } else if path.contains("/.well-known/") {
        json(
            200,
            &json!({
                "issuer": "https://id.example.com",
                "token_endpoint": "https://id.example.com/token?key=planted-key",
                "revocation_endpoint": "https://id.example.com/revoke?key=planted-key",
                "registration_access_token": "planted-registration",
            }),
        )
    } else if path.starts_with("/v1/auth/") {
        json(200, &vault(number))
    } else if path.contains("/serviceaccounts/") {
        let token = format!("planted-access-{number}");
        json(201, &json!({ "status": { "token": token } }))
    } else if parts.method == Method::GET && !path.starts_with("/msi/") {
        text(401, "planted")
    } else {
        let mut issued = issue(number);
        if parts.headers.contains_key("dpop") {
            issued["token_type"] = Value::from("DPoP");
        }
        let nonce = HeaderName::from_static("dpop-nonce");
        let response = with(json(200, &issued), nonce, "planted-nonce");
        with(response, SET_COOKIE, &format!("sid={COOKIE}; Path=/"))
    };
    response.unwrap()
}

/// The response of Vault to a login, to a renewal and to a lookup.
fn vault(number: usize) -> Value {
    json!({
        "auth": {
            "client_token": format!("planted-access-{number}"),
            "accessor": "planted-accessor",
            "lease_duration": 3600,
            "renewable": true,
        },
        "data": { "id": format!("planted-access-{number}"), "ttl": 3600, "renewable": true },
    })
}

fn issue(number: usize) -> Value {
    json!({
        "access_token": format!("planted-access-{number}"),
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": REFRESH,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "device_code": DEVICE_CODE,
        "user_code": "WDJB-MJHT",
        "verification_uri": "https://id.example.com/device",
        "verification_uri_complete": "https://id.example.com/?c=planted-complete",
        "interval": 1,
    })
}

fn json(status: u16, value: &Value) -> ServerResponse {
    with(
        text(status, &value.to_string()),
        CONTENT_TYPE,
        "application/json",
    )
}

fn text(status: u16, text: &str) -> ServerResponse {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status.try_into().unwrap();
    Some(response)
}

/// Sets a header. A value that no header can contain leaves the response unchanged.
fn with(mut response: ServerResponse, name: HeaderName, value: &str) -> ServerResponse {
    if let (Some(response), Ok(value)) = (&mut response, HeaderValue::try_from(value)) {
        response.headers_mut().insert(name, value);
    }
    response
}
