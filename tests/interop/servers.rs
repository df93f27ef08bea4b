//! The authorization servers. Each server starts once, when a test first needs it. Each test
//! registers its own clients there.

use std::fs;
use std::sync::LazyLock;

use reqwest::redirect::Policy;
use serde_json::Value;

use crate::process::{Program, Server};
use crate::tls::Authority;

/// django-oauth-toolkit. Its issuer has a path, and its tokens are opaque. Ada has an account.
pub(crate) static DJANGO: LazyLock<Server> =
    LazyLock::new(|| Server::start(Program::python("django_oauth/serve.py")));

/// oidc-provider. It also serves TLS for clients with a certificate of [`AUTHORITY`]. Its tokens
/// are JWTs for the requested resource, or else for [`AUDIENCE`]. Tokens of a login with `openid`
/// are opaque, and valid for its own userinfo endpoint.
pub(crate) static OIDC: LazyLock<Server> = LazyLock::new(|| {
    let program = Program::node("oidc_provider/serve.mjs");
    let write = |name, text| fs::write(program.folder().join(name), text).unwrap();
    write("root.pem", AUTHORITY.root());
    write("server.pem", AUTHORITY.issue("localhost").unwrap());
    Server::start(program)
});

/// Issues the certificates of the servers and the clients.
pub(crate) static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new().unwrap());

/// Authlib. Its tokens are JWTs for [`AUDIENCE`], or for the audience that a request names.
pub(crate) static AUTHLIB: LazyLock<Server> =
    LazyLock::new(|| Server::start(Program::python("authlib_server/serve.py")));

/// The default audience of tokens.
pub(crate) const AUDIENCE: &str = "https://api.example.com";

/// The client for requests that the tests and their servers send themselves. It is shared because
/// building it takes as long as 100 requests. It keeps no connections, because each test has its
/// own runtime.
pub(crate) static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let client = reqwest::Client::builder().pool_max_idle_per_host(0);
    client.redirect(Policy::none()).build().unwrap()
});

/// The credentials of a registered client.
pub(crate) struct Registered {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// Registers a client with this description.
pub(crate) async fn register(server: &Server, path: &str, description: &Value) -> Registered {
    let request = HTTP
        .post(server.url(path))
        .header("content-type", "application/json")
        .body(description.to_string());
    let answer = text(request).await;
    let client: Value = serde_json::from_str(&answer).unwrap();
    let member = |name: &str| client[name].as_str().unwrap_or_default().to_owned();
    Registered {
        id: member("client_id"),
        secret: member("client_secret"),
    }
}

/// Returns how many access tokens a client got, of any kind.
pub(crate) async fn issued(server: &Server, client: &str) -> u32 {
    let url = server.url(&format!("/interop/issued/{client}"));
    text(HTTP.get(url)).await.parse().unwrap()
}

/// Fetches a token without this crate, for a client with a secret.
pub(crate) async fn token(url: &str, client: &Registered, more: &[(&str, &str)]) -> String {
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", &client.id)
        .append_pair("client_secret", &client.secret)
        .extend_pairs(more)
        .finish();
    let request = HTTP
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let reply: Value = serde_json::from_str(&text(request).await).unwrap();
    reply["access_token"].as_str().unwrap().to_owned()
}

/// Returns the origin of a URL, for `AuthLayer::only_to`.
pub(crate) fn origin_of(url: &str) -> String {
    let url = reqwest::Url::parse(url).unwrap();
    url.origin().ascii_serialization()
}

/// Sends a request that must succeed, and returns the body.
pub(crate) async fn text(request: reqwest::RequestBuilder) -> String {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    text
}
