//! An MCP server that requires a token, and the authorization server that issues it, on loopback.

use std::future::ready;
use std::sync::{Arc, Mutex};

use axum::extract::{Form, Request, State};
use axum::middleware::{Next, from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
use tokio::net::TcpListener;

pub const CLIENT_ID: &str = "assistant";
pub const CLIENT_SECRET: &str = "not a secret";

/// A log that the tests read. A read returns the entries since the last read.
#[derive(Clone, Default)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }

    fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }
}

pub struct Servers {
    pub issuer: String,
    /// The origin of the MCP server: scheme, host and port.
    pub origin: String,
    /// The requests to the authorization server.
    pub asked: Log,
    /// The credentials of the requests to the MCP server, with `-` for none.
    pub seen: Log,
    tokens: Tokens,
}

/// How many tokens were issued. Only the last one is valid.
#[derive(Clone, Default)]
struct Tokens {
    issued: Arc<Mutex<usize>>,
    /// The number of the last revoked token.
    revoked: Arc<Mutex<usize>>,
}

impl Servers {
    pub async fn start() -> Self {
        let [id, mcp] = [listen().await, listen().await];
        let [issuer, origin] =
            [&id, &mcp].map(|one| format!("http://{}", one.local_addr().unwrap()));
        let (asked, seen, tokens) = (Log::default(), Log::default(), Tokens::default());
        let server = authorization_server(&issuer, &format!("{origin}/mcp"), &asked, &tokens);
        tokio::spawn(async move { axum::serve(id, server).await.unwrap() });
        let server = mcp_server(&issuer, &origin, &seen, &tokens);
        tokio::spawn(async move { axum::serve(mcp, server).await.unwrap() });
        Self {
            issuer,
            origin,
            asked,
            seen,
            tokens,
        }
    }

    pub fn address(&self) -> String {
        format!("{}/mcp", self.origin)
    }

    pub fn revoke_all(&self) {
        *self.tokens.revoked.lock().unwrap() = *self.tokens.issued.lock().unwrap();
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn authorization_server(issuer: &str, resource: &str, asked: &Log, tokens: &Tokens) -> Router {
    let metadata = json!({"issuer": issuer, "token_endpoint": format!("{issuer}/token")});
    let (noted, tokens) = (asked.clone(), tokens.clone());
    let resource = resource.to_owned();
    let token = async move |Form(form): Form<Vec<(String, String)>>| {
        let has = |name: &str, value: &str| form.contains(&(name.into(), value.into()));
        let is_known = has("client_id", CLIENT_ID) && has("client_secret", CLIENT_SECRET);
        if !is_known || !has("resource", &resource) || !has("scope", "tools") {
            let refusal = json!({"error": "invalid_request"});
            return (StatusCode::BAD_REQUEST, Json(refusal));
        }
        let mut issued = tokens.issued.lock().unwrap();
        *issued += 1;
        let token = format!("token-{issued}");
        let token = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600});
        (StatusCode::OK, Json(token))
    };
    let well_known = "/.well-known/oauth-authorization-server";
    Router::new()
        .route(well_known, get(async move || Json(metadata)))
        .route("/token", post(token))
        .layer(map_request(move |request: Request| {
            noted.note(request.uri().path().to_owned());
            ready(request)
        }))
}

/// An MCP server with one tool, which returns the number of notes.
#[derive(Clone)]
struct Notes;

impl ServerHandler for Notes {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let text = format!("{}: three", request.name);
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

#[derive(Clone)]
struct Gate {
    challenge: String,
    seen: Log,
    tokens: Tokens,
}

fn mcp_server(issuer: &str, origin: &str, seen: &Log, tokens: &Tokens) -> Router {
    let metadata = json!({
        "resource": format!("{origin}/mcp"),
        "authorization_servers": [issuer],
        "scopes_supported": ["tools"],
    });
    let place = "/.well-known/oauth-protected-resource/mcp";
    let gate = Gate {
        challenge: format!(r#"Bearer resource_metadata="{origin}{place}", scope="tools""#),
        seen: seen.clone(),
        tokens: tokens.clone(),
    };
    let service = StreamableHttpService::new(
        || Ok(Notes),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    Router::new()
        .nest_service("/mcp", service)
        .layer(from_fn_with_state(gate, guard))
        .route(place, get(async move || Json(metadata)))
}

async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let credential = request.headers().get(AUTHORIZATION);
    let credential = credential.map_or("-", |value| value.to_str().unwrap());
    let number = credential.strip_prefix("Bearer token-");
    let number: Option<usize> = number.and_then(|number| number.parse().ok());
    gate.seen.note(credential.to_owned());
    if number.is_some_and(|number| number > *gate.tokens.revoked.lock().unwrap()) {
        return next.run(request).await;
    }
    let challenge = [(WWW_AUTHENTICATE, gate.challenge)];
    (StatusCode::UNAUTHORIZED, challenge).into_response()
}
