//! The Digest authentication example against Flask-HTTPAuth. Each test has its own server, because
//! the test counts the server's responses.

use std::future::ready;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use reqwest::{Client, Method};
use tower::{Layer, Service, ServiceExt};
use tower_auth::{Auth, AuthLayer, NotReplayed, Place, Token};

use crate::process::{Program, Server};
use crate::servers::{HTTP, text};

#[allow(dead_code, reason = "it has a `main`")]
#[path = "../../examples/extra/digest.rs"]
mod example;

struct Site {
    server: Server,
}

impl Site {
    fn start() -> Self {
        Self {
            server: Server::start(Program::python("flask_digest/serve.py")),
        }
    }

    fn client(&self, password: &str) -> Auth<Client> {
        let login = ("mufasa".to_owned(), password.to_owned(), None);
        let digest = example::Digest(login, example::Challenges::default());
        let place = Place::Header(AUTHORIZATION);
        let token = Token::per_request(place, password, Arc::new(digest));
        let layer = AuthLayer::new(move |_| ready(Ok(token.clone())));
        let layer = layer.only_to([self.server.url("")]).unwrap();
        layer.layer(HTTP.clone())
    }

    async fn send(
        &self,
        client: &mut Auth<Client>,
        method: Method,
        path: &str,
    ) -> reqwest::Response {
        let request = HTTP.request(method, self.server.url(path)).build().unwrap();
        client.ready().await.unwrap().call(request).await.unwrap()
    }

    /// Returns the statuses of all responses so far.
    async fn statuses(&self) -> String {
        text(HTTP.get(self.server.url("/interop/statuses/mufasa"))).await
    }
}

#[tokio::test]
async fn the_nonce_is_learned_from_the_first_401_and_used_again() {
    let site = Site::start();
    let mut client = site.client("Circle of Life");
    let response = site.send(&mut client, Method::GET, "/things?page=2").await;
    assert_eq!(response.text().await.unwrap(), "mufasa 2");
    assert_eq!(site.statuses().await, "401 200");
    // The hash that the client sends covers the method and the query.
    for (method, path) in [
        (Method::POST, "/things"),
        (Method::GET, "/things?page=3&page=4"),
    ] {
        let response = site.send(&mut client, method, path).await;
        assert_eq!(response.status(), 200, "{path}");
    }
    assert_eq!(site.statuses().await, "401 200 200 200");
}

#[tokio::test]
async fn a_wrong_password_is_the_callers_401() {
    let site = Site::start();
    let mut client = site.client("Hakuna Matata");
    let response = site.send(&mut client, Method::GET, "/things").await;
    assert_eq!(response.status(), 401);
    let why = response.extensions().get();
    assert!(matches!(why, Some(NotReplayed::SameToken)), "{why:?}");
    assert_eq!(site.statuses().await, "401 401");
}

#[tokio::test]
async fn after_the_server_has_forgotten_its_nonces_the_next_request_has_a_new_one() {
    let site = Site::start();
    let mut client = site.client("Circle of Life");
    site.send(&mut client, Method::GET, "/things").await;
    text(HTTP.post(site.server.url("/interop/forget-nonces"))).await;
    // This server doesn't say that the nonce is stale. So the 401 may be about the password.
    let response = site.send(&mut client, Method::GET, "/things").await;
    assert_eq!(response.status(), 401);
    let response = site.send(&mut client, Method::GET, "/things").await;
    assert_eq!(response.status(), 200);
    assert_eq!(site.statuses().await, "401 200 401 200");
}
