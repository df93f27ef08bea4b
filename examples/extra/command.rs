//! A program prints the credential. The layer runs the program once for all requests.
//!
//! ```text
//! cargo run -p tower-auth-examples --example command
//! API_URL=https://api.github.com/user cargo run -p tower-auth-examples --example command -- gh auth token
//! ```
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

use std::env;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use http::Request;
use support::Report;
use tower::{Layer, ServiceExt};
use tower_auth::AuthLayer;
use tower_auth::platform::Command;

/// The API that the example calls without `API_URL`. This API accepts one token.
async fn answer(headers: HeaderMap) -> StatusCode {
    match headers
        .get("authorization")
        .map(http::HeaderValue::as_bytes)
    {
        Some(b"Bearer for-loopback-only") => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let own = format!("http://{}/", listener.local_addr()?);
    let server = Router::new().route("/", get(answer));
    tokio::spawn(async move { axum::serve(listener, server).await });

    let url: http::Uri = env::var("API_URL").unwrap_or(own).parse()?;
    let mut words = env::args().skip(1);
    let token = match words.next() {
        Some(program) => Command::new(program).args(words),
        None => Command::new("printf").arg("for-loopback-only"),
    };
    let origin = format!(
        "{}://{}",
        url.scheme_str().unwrap_or("https"),
        url.authority().ok_or("no host")?
    );
    let layer = AuthLayer::new(token).only_to([origin])?;
    let client = layer.layer(reqwest::Client::new());
    for number in 1..=3 {
        let request = Request::get(&url)
            .header("user-agent", "example")
            .body(reqwest::Body::default())?;
        let response = client.clone().oneshot(request.try_into()?).await?;
        println!("request {number}: {}", response.status());
    }
    Ok(())
}
