//! Fakes for tests of clients that use [`tower_auth`].
//!
//! | type | is |
//! | --- | --- |
//! | [`ScriptedSource`] | a token source that issues, fails, hangs and panics as a script says |
//! | [`controlled_source`] | a token source whose fetches the test completes one by one |
//! | [`AuthorizationServer`] | an OAuth 2 authorization server that issues, expires and revokes tokens |
//! | [`Api`] | an API that accepts these tokens, and refuses all others |
//! | [`ScriptedServer`] | any other server: a closure responds to each request |
//!
//! The three servers are Tower services, so they work in memory, without a port. Each can also
//! listen on 127.0.0.1: see [`ScriptedServer::serve`]. All record the requests that they received.
//! All can respond late or with an error, and can stall or reset the connection: see
//! [`ScriptedResponse`].
//!
//! The servers' clock is [`Clock::tokio`](tower_auth::cache::Clock::tokio), unless the test sets
//! another one. In a test with paused time, no test has to sleep until a token expires.
//!
//! # Example
//!
//! The API refuses a revoked token, and the layer fetches another token and replays the request:
//!
//! ```
//! use http::Request;
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_auth::AuthLayer;
//! use tower_auth_test::{Api, AuthorizationServer};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
//! let server = AuthorizationServer::new();
//! let api = Api::new(&server);
//! let source = server.client_credentials()?;
//! let client = ServiceBuilder::new()
//!     .layer(AuthLayer::new(source).only_to(["https://api.example.com"])?)
//!     .service(api.clone());
//! let notes = "https://api.example.com/notes";
//! let request = || Request::get(notes).body(Full::<bytes::Bytes>::default());
//!
//! client.clone().oneshot(request()?).await?;
//! server.revoke_all();
//! let response = client.clone().oneshot(request()?).await?;
//!
//! assert_eq!(response.status(), 200);
//! assert_eq!(server.tokens_issued(), 2);
//! api.assert_requests([
//!     "GET /notes Bearer token-1 -> 200",
//!     "GET /notes Bearer token-1 -> 401",
//!     "GET /notes Bearer token-2 -> 200",
//! ]);
//! # Ok(()) }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]
#![allow(
    clippy::panic,
    reason = "an assertion of a test panics, and so does a mistake in a test's script"
)]

mod difference;
mod idle;
mod lock;

mod source;

mod server;

mod authorization_server;

mod api;

pub use api::{Api, Refusal};
pub use authorization_server::{AuthorizationServer, IssuedToken, RefreshTokens};
pub use idle::run_until_idle;
#[cfg(feature = "loopback")]
pub use server::Loopback;
pub use server::{RecordedRequest, ScriptedBody, ScriptedResponse, ScriptedServer, ServerFuture};
pub use source::{ControlledSource, Fetch, Fetches, ScriptedSource, Step, controlled_source};

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
