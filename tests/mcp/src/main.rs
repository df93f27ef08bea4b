//! A client of the Model Context Protocol, with that protocol's SDK on both sides. The test goes
//! from the server's 401 to the named authorization server (RFC 9728), and on to a tool's response.

mod client;
mod servers;

use std::error::Error as StdError;

use client::Client;
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use servers::{CLIENT_ID, CLIENT_SECRET, Servers};
use tower::Layer;
use tower_auth::AuthLayer;
use tower_auth::oauth2::{ClientCredentials, ProtectedResource, Protection};

type Connected = RunningService<RoleClient, ()>;

/// Connects to the server. Only this issuer's tokens are allowed.
async fn connect(servers: &Servers, allowed: &str) -> Result<Connected, Box<dyn StdError>> {
    let build = |protection: Protection| {
        let source = ClientCredentials::new(protection.endpoint(), CLIENT_ID, CLIENT_SECRET)?;
        Ok(source
            .resource(protection.resource())
            .scope(protection.scope()))
    };
    let source = ProtectedResource::new(servers.address(), [allowed], build)?;
    let layer = AuthLayer::new(source);
    let http = layer.layer(reqwest::Client::builder().no_proxy().build()?);
    let config = StreamableHttpClientTransportConfig::with_uri(servers.address());
    let transport = StreamableHttpClientTransport::with_client(Client { http }, config);
    Ok(().serve(transport).await?)
}

async fn notes(client: &Connected) -> String {
    let call = CallToolRequestParams::new("notes");
    let result = client.call_tool(call).await.unwrap();
    result.content[0].as_text().unwrap().text.clone()
}

const METADATA: &str = "/.well-known/oauth-authorization-server";

#[tokio::test]
async fn the_client_finds_the_authorization_server_gets_a_token_and_calls_a_tool() {
    let servers = Servers::start().await;
    let client = connect(&servers, &servers.issuer).await.unwrap();
    assert_eq!(notes(&client).await, "notes: three");
    assert_eq!(servers.asked.take(), [METADATA, "/token"]);
    let seen = servers.seen.take();
    assert!(
        seen.iter().all(|one| one == "Bearer token-1" || one == "-"),
        "{seen:?}"
    );
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_revoked_within_a_session_is_replaced_and_the_call_is_answered() {
    let servers = Servers::start().await;
    let client = connect(&servers, &servers.issuer).await.unwrap();
    assert_eq!(notes(&client).await, "notes: three");
    servers.seen.take();
    servers.asked.take();
    servers.revoke_all();
    assert_eq!(notes(&client).await, "notes: three");
    let seen = servers.seen.take();
    assert_eq!(seen.first().unwrap(), "Bearer token-1");
    assert!(seen.contains(&String::from("Bearer token-2")), "{seen:?}");
    let asked = servers.asked.take();
    assert_eq!(
        asked.iter().filter(|path| *path == "/token").count(),
        1,
        "{asked:?}"
    );
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_is_not_allowed_is_refused_before_a_byte_goes_there() {
    let servers = Servers::start().await;
    let error = connect(&servers, "https://id.example.com")
        .await
        .unwrap_err();
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    assert!(
        texts.iter().any(|text| text.contains("allow")),
        "{texts:#?}"
    );
    assert!(servers.asked.take().is_empty());
    // At most one request reached the MCP server, and it carried no credential.
    let seen = servers.seen.take();
    assert!(
        seen.iter().all(|one| one == "-") && seen.len() <= 1,
        "{seen:?}"
    );
}
