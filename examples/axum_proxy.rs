//! An axum server that forwards requests to an API, with the server's own credential. The server
//! streams the bodies.
//!
//! ```text
//! cargo run --example axum_proxy --features axum
//! ```
#![allow(clippy::print_stdout)]

mod support;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::uri::PathAndQuery;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use support::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, Report, SCOPE, Servers};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Auth, AuthLayer};

#[derive(Clone)]
struct Upstream {
    client: Auth<Client<HttpConnector, Body>>,
    url: String,
}

async fn pass_on(State(upstream): State<Upstream>, mut request: Request) -> Response {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", PathAndQuery::as_str);
    let Ok(uri) = format!("{}{path}", upstream.url).parse::<Uri>() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = uri;
    // The caller's credential is for this server only. If the caller's credential stayed in the
    // request, the layer would send it to the API instead of the server's own.
    request.headers_mut().remove(AUTHORIZATION);
    request.headers_mut().remove(HOST);

    match upstream.client.oneshot(request).await {
        Ok(response) => response.map(Body::new),
        // There was no token, or no connection to the API. The caller doesn't get the reason.
        Err(error) => {
            eprintln!("{error}");
            StatusCode::BAD_GATEWAY.into_response()
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let servers = Servers::start().await?;

    let token_url = servers.authorization.token_url();
    let source = ClientCredentials::new(token_url, CLIENT_ID, CLIENT_SECRET)?
        .audience(AUDIENCE)
        .scope(SCOPE);
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let upstream = Upstream {
        client: ServiceBuilder::new()
            .layer(AuthLayer::new(source).only_to([servers.api.url()])?)
            .service(client),
        url: servers.api.url().to_owned(),
    };
    let proxy = Router::new().fallback(pass_on).with_state(upstream);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, proxy).await });

    for note in ["buy milk", "water the plants"] {
        // The caller of the proxy sends no credential.
        let response = reqwest::Client::new()
            .post(format!("http://{address}/notes"))
            .body(note)
            .send()
            .await?
            .error_for_status()?;
        println!("{}: {}", response.status(), response.text().await?);

        // The API refuses the next request. The layer has kept the streamed body, and sends the
        // request again.
        servers.revoke_all_tokens();
    }

    let (requests, refusals) = (servers.api.requests(), servers.api.refusals());
    println!("The API saw {requests} requests and refused {refusals} of them.");
    Ok(())
}
