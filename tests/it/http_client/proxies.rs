//! The proxies of the environment. Each test runs this test binary again, as a process whose
//! environment names a proxy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;
use tower_auth::login::JsonLogin;
use tower_auth::oauth2::{Client, ClientCredentials, EndpointUrl, ReqwestTransport};
use tower_auth::{Reason, TokenSource};

use crate::support::token_server::{ID, SECRET};

/// The variable that tells the process the port of the server. No ordinary test run has it.
const PORT: &str = "TOWER_AUTH_TEST_PORT_BEHIND_PROXY";

const PAGE: &str = include_str!("../../../src/docs/security.md");

/// A server on loopback that records the first line of each request.
struct Recorder {
    port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    async fn start(respond: fn(u16, &str) -> (StatusCode, String)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let recorded = Arc::clone(&lines);
        let app = Router::new().fallback(async move |request: Request| {
            let line = format!("{} {}", request.method(), request.uri());
            recorded.lock().unwrap().push(line);
            respond(port, request.uri().path())
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { port, lines }
    }

    /// Starts a server with a token endpoint, a login, and the metadata of an issuer.
    async fn server() -> Self {
        Self::start(|port, path| {
            let address = format!("http://127.0.0.1:{port}");
            let body = match path.starts_with("/.well-known/") {
                true => json!({
                    "issuer": address,
                    "token_endpoint": format!("{address}/token"),
                    "revocation_endpoint": format!("{address}/revoke"),
                }),
                false => json!({"access_token": "t", "token_type": "Bearer", "expires_in": 60}),
            };
            (StatusCode::OK, body.to_string())
        })
        .await
    }

    /// Starts a proxy that forwards no request.
    async fn proxy() -> Self {
        Self::start(|_, _| (StatusCode::BAD_GATEWAY, String::new())).await
    }

    fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

/// Runs one test of this file in a process whose environment names this proxy. Waits until the
/// process ends.
async fn run(test: &str, proxy: &Recorder, server: &Recorder, no_proxy: Option<&str>) {
    let (_, room) = module_path!().split_once("::").unwrap();
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{room}::{test}"), "--nocapture"]);
    for name in ["REQUEST_METHOD", "NO_PROXY", "no_proxy"] {
        command.env_remove(name);
    }
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, &address);
        command.env(name.to_lowercase(), &address);
    }
    command.envs(no_proxy.map(|hosts| ("NO_PROXY", hosts)));
    command
        .env(PORT, server.port.to_string())
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Returns the server's port in a process that [`run`] started.
fn port() -> Option<u16> {
    std::env::var(PORT).ok()?.parse().ok()
}

fn source(url: &str) -> ClientCredentials {
    let url = EndpointUrl::danger_allow_http(url).unwrap();
    ClientCredentials::new(url, ID, SECRET).unwrap()
}

#[tokio::test]
async fn fetches_with_the_crates_own_transport() {
    let Some(port) = port() else { return };
    for host in ["127.0.0.1", "localhost", "LOCALHOST", "127.1", "2130706433"] {
        let source = source(&format!("http://{host}:{port}/token"));
        source.fetch(Reason::First).await.unwrap();
    }
    let address = format!("http://127.0.0.1:{port}");
    let issuer = EndpointUrl::from_issuer(&address).unwrap();
    let client = Client::new(issuer.clone(), ID, SECRET).unwrap();
    let source_of_issuer = ClientCredentials::with_client(client.revoke_at(issuer).unwrap());
    let token = source_of_issuer.fetch(Reason::First).await.unwrap();
    source_of_issuer.close(Some(token)).await.unwrap();
    let login = JsonLogin::new(format!("{address}/login"), "me", "password").unwrap();
    login.fetch(Reason::First).await.unwrap();
    // Nothing listens at these hosts. The test only checks that the proxy gets no request.
    for url in [
        "http://127.1.2.3:9/token",
        "http://0.0.0.0:9/token",
        "https://[::1]:9/token",
        "http://[::ffff:127.0.0.1]:9/token",
        "http://169.254.1.1:9/token",
        "https://169.254.1.1:9/token",
        "http://0xa9fe0101:9/token",
        "http://[fe80::1]:9/token",
        "http://[::ffff:169.254.1.1]:9/token",
    ] {
        let source = source(url).timeout(Duration::from_millis(200));
        source.fetch(Reason::First).await.unwrap_err();
    }
    // The proxy is used for all other hosts.
    for url in [
        "http://id.example.com/token",
        "https://id.example.com/token",
        "http://localhost.example.com/token",
        "http://127.0.0.1.example.com/token",
        "http://192.168.1.1/token",
        "http://[fd00::1]/token",
    ] {
        source(url).fetch(Reason::First).await.unwrap_err();
    }
}

#[tokio::test]
async fn the_crates_own_transport_uses_no_proxy_for_loopback_and_link_local_hosts() {
    let (proxy, server) = (Recorder::proxy().await, Recorder::server().await);
    run(
        "fetches_with_the_crates_own_transport",
        &proxy,
        &server,
        None,
    )
    .await;
    let expected = [
        "POST http://id.example.com/token",
        "CONNECT id.example.com:443",
        "POST http://localhost.example.com/token",
        "POST http://127.0.0.1.example.com/token",
        "POST http://192.168.1.1/token",
        "POST http://[fd00::1]/token",
    ];
    assert_eq!(proxy.take_lines(), expected);
    let lines = server.take_lines();
    assert_eq!(lines[..5], ["POST /token"; 5]);
    let expected = [
        "GET /.well-known/oauth-authorization-server",
        "POST /token",
        "POST /revoke",
        "POST /login",
    ];
    assert_eq!(lines[5..], expected);
}

/// Fetches tokens from loopback and link-local hosts, with a client of the user.
async fn fetch_with(http: reqwest::Client, port: u16) {
    for url in [
        format!("http://127.0.0.1:{port}/token"),
        format!("http://localhost:{port}/token"),
        String::from("http://[::1]:9/token"),
        String::from("http://169.254.1.1:9/token"),
        String::from("http://[fe80::1]:9/token"),
        String::from("http://0.0.0.0:9/token"),
        String::from("http://[::]:9/token"),
    ] {
        let source = source(&url).transport(ReqwestTransport::new(http.clone()));
        let source = source.timeout(Duration::from_millis(200));
        drop(source.fetch(Reason::First).await);
    }
}

#[tokio::test]
async fn fetches_with_a_users_client() {
    if let Some(port) = port() {
        let http = reqwest::Client::new();
        fetch_with(http.clone(), port).await;
        drop(http.get("http://api.example.com/").send().await);
    }
}

#[tokio::test]
async fn fetches_with_a_users_client_without_proxy() {
    if let Some(port) = port() {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        fetch_with(http, port).await;
    }
}

#[tokio::test]
async fn a_users_client_needs_the_line_of_the_guide() {
    let (proxy, server) = (Recorder::proxy().await, Recorder::server().await);
    run("fetches_with_a_users_client", &proxy, &server, None).await;
    assert_eq!(proxy.take_lines().len(), 8);
    assert!(server.take_lines().is_empty());

    let mut lines = PAGE.lines();
    let line = lines.find_map(|line| line.strip_prefix("NO_PROXY="));
    run("fetches_with_a_users_client", &proxy, &server, line).await;
    assert_eq!(proxy.take_lines(), ["GET http://api.example.com/"]);
    assert_eq!(server.take_lines().len(), 2);

    assert!(PAGE.contains("reqwest::Client::builder().no_proxy()"));
    let test = "fetches_with_a_users_client_without_proxy";
    run(test, &proxy, &server, None).await;
    assert!(proxy.take_lines().is_empty());
    assert_eq!(server.take_lines().len(), 2);
}
