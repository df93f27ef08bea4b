//! The copies that other crates leave in memory, as the security page says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use tower::{Layer, ServiceExt};
use tower_auth::fleet::{RedisStore, TokenStore};
use tower_auth::oauth2::{Client, ClientCredentials};
use tower_auth::{ApiKey, Reason, TokenSource};
use tower_auth_freed::{FreedSecret, watch};

use crate::planted::{needles, secret, text};
use crate::redis_server::RedisServer;
use crate::responses::{Answer, Sent, tokens};
use crate::server::Server;
use crate::watched::{layer, real_time};

/// Checks that there are copies, and that only these crates leave copies.
#[track_caller]
fn assert_left_by(crates: &[&str], found: &[FreedSecret]) {
    assert!(
        !found.is_empty(),
        "no copy is left; change the security page"
    );
    for freed in found {
        let function = freed.freed_by.first().map_or("", String::as_str);
        let path = function.trim_start_matches("core::ptr::");
        let path = path
            .trim_start_matches("drop_in_place")
            .trim_start_matches('<');
        let mut crates = crates.iter();
        assert!(crates.any(|it| path.starts_with(it)), "{freed}");
    }
}

/// `serde_json` decodes a string with an escape in a buffer of its own.
#[test]
fn serde_json_leaves_strings_with_an_escape() {
    // Some servers escape each slash (RFC 8259 §7).
    fn escaped(sent: &Sent) -> Answer {
        let mut answer = tokens(sent);
        for frame in answer.frames.iter_mut().flatten() {
            let json = String::from_utf8_lossy(frame).replace('/', "\\/");
            *frame = json.into_bytes();
        }
        answer
    }
    let found = watch(needles(), || {
        real_time().block_on(async {
            let client = Client::new("https://id.example.com/token", "client", secret("client"));
            let client = client.unwrap().transport(Server::new(escaped, 0));
            let source = ClientCredentials::with_client(client);
            source.fetch(Reason::First).await.unwrap();
        });
    });
    assert_left_by(&["serde_json::"], &found);
}

/// hyper and reqwest copy headers and bodies into buffers.
#[test]
fn reqwest_leaves_what_it_sends_and_receives() {
    let server = serve();
    let found = watch(needles(), || {
        real_time().block_on(async {
            let client = Client::new(format!("http://{server}/token"), "client", secret("client"));
            let source = ClientCredentials::with_client(client.unwrap().basic_auth());
            let client =
                layer(source).layer(reqwest::Client::builder().no_proxy().build().unwrap());
            let url = format!("http://{server}/things").parse().unwrap();
            let request = reqwest::Request::new(reqwest::Method::GET, url);
            let response = client.oneshot(request).await.unwrap();
            drop(response.bytes().await.unwrap());
        });
    });
    assert_left_by(
        &["hyper", "reqwest::", "http::", "bytes::", "tokio::"],
        &found,
    );
}

/// A `Url` contains a plain string, which nothing zeroizes.
#[test]
fn reqwest_leaves_a_key_in_a_query() {
    let found = watch(needles(), || {
        real_time().block_on(async {
            let api = tower::service_fn(|request: reqwest::Request| async {
                drop(request);
                Ok::<_, reqwest::Error>(reqwest::Response::from(http::Response::new("")))
            });
            let client = layer(ApiKey::new(secret("key")).query("key").unwrap()).layer(api);
            let url = "https://api.example.com/things?page=1".parse().unwrap();
            let request = reqwest::Request::new(reqwest::Method::GET, url);
            client.oneshot(request).await.unwrap();
        });
    });
    assert_left_by(&["url::", "reqwest::"], &found);
}

/// The crate `redis` copies values into buffers. A sealed value contains no secret.
#[test]
fn redis_leaves_unsealed_values() {
    let server = real_time().block_on(RedisServer::start(&[]));
    let store = RedisStore::open(server.url()).unwrap();
    let value = text("value");
    let found = watch(needles(), || {
        real_time().block_on(async {
            let hour = Duration::from_secs(3_600);
            let lease = store.lease("key", hour).await.unwrap().unwrap();
            let is_saved = store.save("key", value.as_bytes(), hour, &lease).await;
            assert!(is_saved.unwrap());
            let loaded = store.load("key").await.unwrap().unwrap();
            assert_eq!(loaded.sealed().unwrap().0, value.as_bytes());
        });
    });
    assert_left_by(&["redis::", "bytes::", "tokio::"], &found);
}

/// Starts a server that issues tokens, on threads that aren't watched.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            thread::spawn(move || respond(connection.unwrap()));
        }
    });
    address
}

fn respond(mut connection: TcpStream) {
    let mut lines = BufReader::new(connection.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap() <= 2 {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    lines.read_exact(&mut vec![0; length]).unwrap();
    let token = format!(
        r#"{{"access_token":"{}","expires_in":3600}}"#,
        text("access")
    );
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", token.len());
    write!(connection, "{head}connection: close\r\n\r\n{token}").unwrap();
}
