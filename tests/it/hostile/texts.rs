//! Every text that a server can send. No error, log event or prompt shows the text as it came: with
//! characters that change what a terminal shows, or at full length.
#![cfg(all(
    feature = "authorization-code",
    feature = "cookies",
    feature = "fleet",
    feature = "jwt"
))]

use std::convert::Infallible;
use std::error::Error as StdError;
use std::iter;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{Request, Response};
use http_body_util::Full;
use secrecy::SecretString;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::fleet::{Fleet, Keyring, Lease, StoreKey, StoredValue, TokenStore};
use tower_auth::login::{JsonLogin, Session};
use tower_auth::oauth2::{
    AuthorizationCode, Client, ClientCredentials, DeviceAuthorization, EndpointUrl, LoginLock,
    ProtectedResource, Protection, RefreshToken, RefreshTokenStore, SavedLogin, StepUp,
    StepUpRequest,
};
use tower_auth::{AuthLayer, BoxError, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::ScriptedSource;

use crate::support::log::listen;
use crate::support::request;
use crate::support::token_server::{ID, SECRET, TokenServer, URL};
use crate::support::web::{Page, Web};

/// Characters that a terminal acts on, hides, or takes as an order to turn the text around.
const FORBIDDEN: &str = "\u{85}\u{9b}\u{ad}\u{34f}\u{61c}\u{180e}\u{200b}\u{200d}\u{200e}\u{200f}\
                         \u{202a}\u{202e}\u{2028}\u{2029}\u{2060}\u{2066}\u{2069}\u{3164}\u{e000}\
                         \u{fdd0}\u{fe0f}\u{feff}\u{fff9}\u{fffc}\u{ffff}\u{13430}\u{e0041}\u{e0100}\u{10fffd}";

/// The longest part of a server's text that is shown.
const LONGEST_PART: usize = 256;

/// The longest text of an error, a field or a prompt.
const LONGEST: usize = 4 * 1024;

const API: &str = "https://api.example.com/v1";
const ISSUER: &str = "https://id.example.com";

/// What a server puts into each place.
#[derive(Clone, Copy)]
struct Sent {
    /// For a string of JSON.
    text: &'static str,
    /// For an address or a header, which can't contain ASCII control characters.
    word: &'static str,
}

type Shown = Vec<String>;
type Point = (&'static str, BoxFuture<'static, Shown>);

fn shown(error: &(dyn StdError + 'static)) -> Shown {
    let chain = iter::successors(Some(error), |&error| error.source());
    chain
        .flat_map(|error| [error.to_string(), format!("{error:?}")])
        .collect()
}

fn shown_by<T>(result: Result<T, tower_auth::Error>, print: impl FnOnce(T) -> String) -> Shown {
    match result {
        Ok(value) => vec![print(value)],
        Err(error) => shown(&error),
    }
}

/// Returns what the source shows alone, and below a cache, which logs.
async fn of(source: impl TokenSource) -> Shown {
    let source = Arc::new(source);
    let fetched = source.fetch(Reason::First).await;
    let mut all = shown_by(fetched, |token| format!("{token:?}"));
    let cache = TokenCache::builder(source).fetch_attempts(1).build();
    let fetched = cache.token().await;
    all.extend(shown_by(fetched, |token| format!("{token:?}")));
    all.push(format!("{:?}", cache.status()));
    cache.close().await;
    all
}

fn issued() -> Value {
    json!({"access_token": "issued", "token_type": "Bearer", "expires_in": 3600})
}

fn issued_with(name: &str, value: impl Into<Value>) -> Value {
    let mut body = issued();
    body[name] = value.into();
    body
}

fn client(server: &TokenServer) -> Client {
    let client = Client::new(URL, ID, SECRET).unwrap();
    client.transport(server.transport())
}

/// Each field of a token response that may become part of an error, a token or an event.
fn of_the_token_endpoint(Sent { text, word }: Sent) -> Vec<Point> {
    let bodies = [
        ("error", 400, json!({"error": text})),
        (
            "description",
            400,
            json!({"error": "x", "error_description": text}),
        ),
        ("error_uri", 400, json!({"error": "x", "error_uri": text})),
        ("message", 400, json!({"message": text})),
        (
            "nested message",
            400,
            json!({"error": {"message": text, "code": text}}),
        ),
        ("errors", 400, json!({"errors": [{"message": text}]})),
        ("name of a remark", 400, json!({text: text})),
        ("remark without a token", 200, json!({"message": text})),
        (
            "invalid_grant",
            400,
            json!({"error": "invalid_grant", "error_description": text}),
        ),
        ("access_token", 200, issued_with("access_token", text)),
        ("token_type", 200, issued_with("token_type", text)),
        ("expires_in", 200, issued_with("expires_in", text)),
        ("scope", 200, issued_with("scope", text)),
        ("refresh_token", 200, issued_with("refresh_token", text)),
        ("id_token", 200, issued_with("id_token", text)),
        ("other field", 200, issued_with("instance_url", text)),
        ("no JSON", 200, json!(text)),
    ];
    let headers = [
        "content-type",
        "content-encoding",
        "ratelimit",
        "x-ratelimit-limit",
        "retry-after",
        "date",
    ];
    let mut points = Vec::new();
    for (name, status, body) in bodies {
        let server = TokenServer::new(status, body.to_string());
        let source = server.client().scope("read write");
        points.push((name, of(source).boxed()));
        let source = RefreshToken::new(client(&server), "refresh-0");
        points.push((name, of(source).boxed()));
        let login = JsonLogin::new(URL, "me", "pw").unwrap();
        points.push((name, of(login.transport(server.transport())).boxed()));
    }
    for header in headers {
        for body in ["", "{", r#"{"access_token":"issued"}"#] {
            let server = TokenServer::new(200, body).with_header(header, word);
            points.push((header, of(server.client()).boxed()));
        }
    }
    let moved = TokenServer::new(307, "").with_header(LOCATION.as_str(), word);
    points.push(("Location", of(moved.client()).boxed()));
    let broken = move |_: Request<Full<bytes::Bytes>>| async move {
        Err::<Response<Full<bytes::Bytes>>, BoxError>(text.into())
    };
    let source = ClientCredentials::new(URL, ID, SECRET).unwrap();
    let source = source.transport(service_fn(broken));
    points.push(("error of a transport", of(source).boxed()));
    points
}

fn of_logins(Sent { text, word }: Sent) -> Vec<Point> {
    let device = |name: &str, value: &str| {
        let mut body = json!({
            "device_code": "device", "user_code": "WDJB-MJHT", "expires_in": 60,
            "verification_uri": "https://id.example.com/activate",
            "verification_uri_complete": "https://id.example.com/activate?code=WDJB-MJHT",
        });
        body[name] = Value::from(value);
        TokenServer::new(200, body.to_string())
    };
    let address = |value: &str| format!("https://id.example.com/{value}").leak() as &'static str;
    let long = address(&"y".repeat(20_000));
    let mut points: Vec<Point> = Vec::new();
    for (name, value) in [
        ("user_code", text),
        ("user_code", word),
        ("verification_uri", address(word)),
        ("verification_uri_complete", address(word)),
        ("verification_uri", long),
        ("verification_uri_complete", long),
    ] {
        let server = device(name, value);
        let login = async move {
            let login = DeviceAuthorization::new(client(&server), format!("{ISSUER}/device"));
            let prompt = login.unwrap().begin().await;
            shown_by(prompt, |prompt| {
                let complete = prompt.verification_uri_complete().unwrap_or_default();
                let (code, uri) = (prompt.user_code(), prompt.verification_uri());
                format!("{prompt:?} {code} {uri} {complete}")
            })
        };
        points.push((name, login.boxed()));
    }
    for (name, value) in [("error", text), ("error_description", text)] {
        let redirect = async move {
            let client = client(&TokenServer::issuing());
            let login = AuthorizationCode::new(client, format!("{ISSUER}/authorize")).unwrap();
            let begun = login.begin("https://app.example.com/back").await.unwrap();
            let (_, state) = begun.url().split_once("&state=").unwrap();
            let state = state.split('&').next().unwrap().to_owned();
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("state", &state).append_pair("error", "x");
            let query = query.append_pair(name, value).finish();
            shown_by(begun.read(&query), |_| String::new())
        };
        points.push((name, redirect.boxed()));
    }
    let cookie = format!("{word}=value; Path=/{word}; Domain={word}");
    let server = TokenServer::new(200, "{}").with_header(SET_COOKIE.as_str(), cookie);
    let session = Session::new(URL, "me", "pw").unwrap();
    let session = session.transport(server.transport());
    points.push(("Set-Cookie", of(session).boxed()));
    let revoked = async move {
        let server = TokenServer::new(400, json!({"error_description": text}).to_string());
        let client = client(&server).revoke_at("https://id.example.com/revoke");
        let source = RefreshToken::new(client.unwrap(), "refresh-0");
        let source = source.log_out_on_close().unwrap();
        let closed = source.close(Some(Token::bearer("token").unwrap())).await;
        shown_by(closed, |()| String::new())
    };
    points.push(("revocation", revoked.boxed()));
    points
}

fn of_metadata(Sent { text, word }: Sent) -> Vec<Point> {
    let well_known = format!("{ISSUER}/.well-known/oauth-authorization-server");
    let mut points: Vec<Point> = Vec::new();
    for (name, value) in [
        ("issuer", text.to_owned()),
        ("token_endpoint", text.to_owned()),
        ("token_endpoint", format!("http://{word}/token")),
        (
            "token_endpoint",
            format!("http://{}/token", "y".repeat(20_000)),
        ),
        ("token_endpoint", format!("https://id.example.com/{word}")),
    ] {
        let web = Web::default();
        let mut metadata = json!({"issuer": ISSUER, "token_endpoint": URL});
        metadata[name] = Value::from(value);
        web.put(&well_known, Page::json(200, metadata));
        let url = EndpointUrl::from_issuer(ISSUER).unwrap();
        let source = ClientCredentials::new(url, ID, SECRET).unwrap();
        points.push((name, of(source.transport(web.transport())).boxed()));
    }
    let challenges = [
        format!(r#"Bearer resource_metadata="{API}/{word}""#),
        format!(r#"Bearer resource_metadata="https://{word}/""#),
        format!(
            r#"Bearer resource_metadata="https://{}/""#,
            "y".repeat(20_000)
        ),
        format!(
            r#"Bearer resource_metadata="http://{}/""#,
            "y".repeat(20_000)
        ),
        format!(r#"Bearer resource_metadata="{word}""#),
        format!(r#"Bearer resource_metadata="https://api.example.com:{word}/""#),
        format!(r#"Bearer scope="{word}""#),
        format!(r#"Bearer error="{word}", {word}"#),
    ];
    for challenge in challenges {
        let web = Web::default();
        let refusal = Page::new(401).header(WWW_AUTHENTICATE.as_str(), challenge);
        web.put(API, refusal);
        points.push(("challenge", of(protected(&web)).boxed()));
    }
    for name in ["resource", "authorization_servers", "scopes_supported"] {
        for value in [text.to_owned(), format!("https://{word}/{word}")] {
            let web = Web::default();
            let mut metadata = json!({
                "resource": API, "authorization_servers": [ISSUER], "scopes_supported": ["read"],
            });
            metadata[name] = match name {
                "resource" => Value::from(value),
                _ => json!([value, text, word, text, word]),
            };
            let at = "https://api.example.com/.well-known/oauth-protected-resource/v1";
            web.put(at, Page::json(200, metadata));
            points.push((name, of(protected(&web)).boxed()));
        }
    }
    points
}

fn protected(web: &Web) -> ProtectedResource {
    let build = |_: Protection| Ok(|_| async { Token::bearer("secret") });
    let source = ProtectedResource::new(API, [ISSUER], build).unwrap();
    source.transport(web.transport()).allow_scopes("read")
}

/// A store whose values and errors come from another program.
#[derive(Clone, Copy)]
struct Store {
    text: &'static str,
    fails: bool,
}

impl TokenStore for Store {
    async fn load(&self, _: &str) -> Result<Option<StoredValue>, BoxError> {
        match self.fails {
            true => Err(self.text.into()),
            false => Ok(Some(StoredValue::foreign(self.text))),
        }
    }

    async fn save(
        &self,
        _: &str,
        _: &[u8],
        _: std::time::Duration,
        _: &Lease,
    ) -> Result<bool, BoxError> {
        Err(self.text.into())
    }

    async fn delete(&self, _: &str, _: &Lease) -> Result<bool, BoxError> {
        Err(self.text.into())
    }

    async fn lease(&self, _: &str, _: std::time::Duration) -> Result<Option<Lease>, BoxError> {
        Ok(Some(Lease::new(1).replacing(self.text)))
    }

    async fn renew(&self, _: &str, _: &Lease, _: std::time::Duration) -> Result<bool, BoxError> {
        Err(self.text.into())
    }

    async fn release(&self, _: &str, _: Lease) -> Result<bool, BoxError> {
        Err(self.text.into())
    }
}

impl RefreshTokenStore for Store {
    async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
        match self.fails {
            true => Err(self.text.into()),
            false => Ok(Some(SavedLogin::new("refresh-0"))),
        }
    }

    async fn save(&self, _: SecretString, _: &LoginLock) -> Result<(), BoxError> {
        Err(self.text.into())
    }
}

fn of_stores(Sent { text, .. }: Sent) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    for fails in [true, false] {
        let store = Store { text, fails };
        let shared = async move {
            let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
            let fleet = Fleet::new(store, Keyring::new("2026-11", key).unwrap());
            let fleet = fleet.key(StoreKey::new("of a test"));
            let cache = TokenCache::builder(ScriptedSource::default());
            let cache = cache.fleet(fleet).unwrap().build();
            let all = shown_by(cache.token().await, |token| format!("{token:?}"));
            cache.close().await;
            all
        };
        points.push(("shared store", shared.boxed()));
        let server = TokenServer::new(200, issued_with("refresh_token", "next").to_string());
        let source = RefreshToken::stored(client(&server), store);
        points.push(("store of a login", of(source).boxed()));
        let server = TokenServer::new(200, issued().to_string());
        let source = RefreshToken::stored(client(&server), store);
        points.push(("store of a login", of(source).boxed()));
    }
    points
}

/// What the layer says about an API's responses.
fn of_apis(Sent { word, .. }: Sent) -> Vec<Point> {
    let step_up = |allowed: &str| {
        let build = |_: &StepUpRequest| Ok(|_| async { Token::bearer("secret") });
        crate::support::layer(StepUp::new(build).allow(allowed))
    };
    let bearer = || crate::support::layer(ScriptedSource::default());
    let insufficient = format!(r#"Bearer error="insufficient_scope", scope="{word} {word}""#);
    let moved = format!("https://{}.example/", "y".repeat(20_000)).parse::<http::Uri>();
    let moved = moved.unwrap();
    let elsewhere = bearer().answered_by(move |_| Some(moved.clone()));
    let responses: [(&str, AuthLayer, u16, String); 5] = [
        ("step up", step_up("read"), 403, insufficient.clone()),
        ("step up", step_up(word), 403, insufficient.clone()),
        ("step up", bearer(), 403, insufficient),
        ("realm", bearer(), 401, format!(r#"Bearer realm="{word}""#)),
        ("elsewhere", elsewhere, 401, "Bearer".to_owned()),
    ];
    let mut points: Vec<Point> = Vec::new();
    for (name, layer, status, challenge) in responses {
        let api = service_fn(move |_: Request<Full<bytes::Bytes>>| {
            let response = Response::builder().status(status);
            let response = response.header(WWW_AUTHENTICATE, challenge.as_bytes());
            std::future::ready(response.body(()))
        });
        let sent = async move {
            let response = layer.layer(api).oneshot(request("")).await.unwrap();
            let why: Option<&tower_auth::NotReplayed> = response.extensions().get();
            why.map_or_else(Vec::new, |why| shown(why))
        };
        points.push((name, sent.boxed()));
    }
    let followed = async move {
        let uri = format!("https://{}.example/", "y".repeat(20_000));
        let request = Request::get(uri).body(Full::<bytes::Bytes>::default());
        let layer = AuthLayer::new(ScriptedSource::default())
            .only_to(["https://api.example.com"])
            .unwrap();
        let api = service_fn(|_: Request<Full<bytes::Bytes>>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(())))
        });
        let sent = layer.layer(api).oneshot(request.unwrap()).await;
        shown(&*sent.unwrap_err())
    };
    points.push(("address that a server gave", followed.boxed()));
    points
}

#[tokio::test(start_paused = true)]
async fn no_text_of_a_server_is_shown_as_it_came_or_at_full_length() {
    let word = format!("{FORBIDDEN}{}", "y".repeat(20_000));
    let text = format!("\u{1b}[2J\n\r\u{7}\u{7f}{word}");
    let sent = Sent {
        text: text.leak(),
        word: word.leak(),
    };
    let mut failures = Vec::new();
    let groups = [
        of_the_token_endpoint,
        of_logins,
        of_metadata,
        of_stores,
        of_apis,
    ];
    for (name, texts) in groups.into_iter().flat_map(|group| group(sent)) {
        let (log, _listening) = listen();
        let mut all = texts.await;
        for line in log.all() {
            all.push(line.message);
            all.extend(line.fields);
        }
        for text in all {
            let is_forbidden = |c: char| c.is_control() || FORBIDDEN.contains(c);
            let beginning: String = text.chars().take(80).collect();
            if let Some(found) = text.chars().find(|c| is_forbidden(*c)) {
                failures.push(format!("{name}: {found:?} in {beginning:?}"));
            }
            let longest = text.split(|c| c != 'y').map(str::len).max();
            if longest > Some(LONGEST_PART) || text.len() > LONGEST {
                failures.push(format!("{name}: {} bytes in {beginning:?}", text.len()));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
