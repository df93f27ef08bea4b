//! The default transport, based on reqwest.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Redirect;
use axum::routing::{any, post};
use tower_auth::oauth2::{Client, ClientCredentials};
use tower_auth::{Reason, TokenSource};

use crate::support::token_server::{ID, SECRET, all_text_of};

type Seen = Arc<std::sync::Mutex<Vec<(String, HeaderMap, String)>>>;

/// Serves on loopback: `/token` issues a token, and `/moved` redirects to `/elsewhere`.
async fn serve() -> (String, Seen) {
    let seen = Seen::default();
    let note = |path: &'static str, response: &'static str| {
        any(
            move |State(seen): State<Seen>, headers: HeaderMap, body: String| async move {
                seen.lock().unwrap().push((path.to_owned(), headers, body));
                response
            },
        )
    };
    let issued = r#"{"access_token":"issued","expires_in":60}"#;
    let app = Router::new()
        .route("/token", note("token", issued))
        .route("/elsewhere", note("elsewhere", issued))
        .route(
            "/moved",
            post(|| async { Redirect::temporary("/elsewhere") }),
        )
        .with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, seen)
}

#[tokio::test]
async fn the_default_transport_gets_a_token() {
    let (address, seen) = serve().await;
    let url = format!("{address}/token");
    let source = ClientCredentials::new(&url, ID, SECRET)
        .unwrap()
        .audience("api");
    assert_eq!(
        source.fetch(Reason::First).await.unwrap().secret(),
        "issued"
    );
    let (_, headers, body) = seen.lock().unwrap().remove(0);
    assert!(
        headers["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("tower-auth/")
    );
    assert_eq!(headers["content-length"], body.len().to_string());
    assert!(body.contains("audience=api"), "{body}");
}

#[tokio::test]
async fn the_default_transport_follows_no_redirect() {
    let (address, seen) = serve().await;
    let url = format!("{address}/moved");
    let source = ClientCredentials::new(url, ID, SECRET).unwrap();
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(seen.lock().unwrap().is_empty(), "the secret went along");
    assert!(error.is_reply(), "{error}");
    assert_eq!(error.status().unwrap(), 307);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_transport_error_without_its_address() {
    // The listener is bound and dropped, so nothing listens on its port.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/token?key=hunter22");
    let source = ClientCredentials::with_client(Client::public(url, ID).unwrap());
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_transport(), "{error}");
    assert!(
        !all_text_of(&error).contains("hunter22"),
        "{}",
        all_text_of(&error)
    );
}

#[test]
fn a_cleartext_address_is_refused_at_construction() {
    let error = ClientCredentials::new("http://example.com/token", ID, SECRET).unwrap_err();
    assert!(error.is_config(), "{error}");
}
