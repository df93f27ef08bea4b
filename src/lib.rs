//! A [Tower](tower) layer that authenticates outgoing HTTP requests.
//!
//! ```text
//! AuthLayer::new(impl TokenSource) : S ─▶ Auth<S>     both of them Service<Request, Response = Response> + Clone
//! ```
//!
//! It takes what the client below takes and returns what that returns. It attaches a token, fetches it
//! once for all concurrent requests, refreshes it before anyone waits, and sends a refused request
//! once more with a new one.
//!
//! ```no_run
//! # #[cfg(feature = "reqwest")] mod example {
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_auth::{AuthLayer, BoxError, oauth2::ClientCredentials};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let source = ClientCredentials::new("https://example.auth0.com/oauth/token", "id", "secret")?
//!         .audience("https://api.example.com");
//!     let http = reqwest::Client::new();
//!     let layer = AuthLayer::new(source).only_to(["https://api.example.com"])?;
//!     let client = ServiceBuilder::new().layer(layer).service(http.clone());
//!
//!     let request = http.get("https://api.example.com/v1/things").build()?;
//!     println!("{}", client.oneshot(request).await?.text().await?);
//!     Ok(())
//! }
//! # }
//! ```
//!
//! # The guide
//!
//! | you ask | see |
//! | --- | --- |
//! | what happens to a token, and with which defaults | [`docs::how_it_works`] |
//! | which source brings what my API asks for | [`docs::choosing`] |
//! | how I get here from code by hand, `reqwest-middleware` or `oauth2` | [`docs::migrating`] |
//! | in which order to put it among other layers | [`docs::composing`] |
//! | where a service keeps the client, and what it does at startup and shutdown | [`docs::in_a_service`] |
//! | what callers see when something goes wrong | [`docs::faults`] |
//! | what is done about which threat, and what stays with me | [`docs::security`] |
//! | how many processes get by on one token | [`docs::fleet`] |
//! | what there is for health checks, logs and metrics | [`docs::watching`] |
//!
//! # The map
//!
//! ```text
//!   request ─▶ Auth<S> ── TokenCache ──(fresh: no wait, no lock)──▶ inner service ─▶ response
//!                            │ stale: serve it, refresh behind           │ refused (401 / grpc-status 16)
//!                            │ none: join the one flight                 ▼
//!                        TokenSource ◀── detached task        reject *that* token, join the flight,
//!                                                             replay the request once
//! ```
//!
//! - [`TokenSource`] asks for a token. Those of OAuth 2 are in [`oauth2`], those of an API's own login
//!   in [`login`]; [`ApiKey`], [`SecretSource`] and any closure that returns a [`Token`] are others.
//! - [`TokenCache`] holds the token and sees to the next: `cache.token().await`. It works without
//!   Tower too. [`cache::Status`] says how it stands, [`Error`] what went wrong.
//! - [`AuthLayer`], [`Auth`] and [`layer::ResponseFuture`] put it on requests. [`NotReplayed`] says why a
//!   refused one wasn't sent again, [`challenge::Challenge`] what the refusal says. [`layer::Replay`] is what a body must
//!   be to be sent again.
//! - [`tenants::Tenants`] is a cache for each tenant; a [`fleet::Fleet`] shares a token with other processes.
//!
//! # Features
//!
//! Each adds, and takes nothing away. What one adds says so on its page.
//!
//! | feature | adds |
//! | --- | --- |
//! | `reqwest` (default) | `reqwest::Request`, `Response` and `Body`, and reqwest as the token endpoint's client |
//! | `hyper` | `hyper::body::Incoming` as a request body |
//! | `axum` | `axum::body::Body` as a request body |
//! | `tonic` | `tonic::body::Body` as a request body |
//! | `fleet` | [`fleet::Fleet`]: processes that share a token, by a [`fleet::TokenStore`]; [`fleet::MemoryStore`] |
//! | `file` | [`fleet::FileStore`] (so `fleet` too), [`oauth2::RefreshTokenFile`] |
//! | `redis` | [`fleet::RedisStore`] (so `fleet` too) |
//! | `tenants` | [`tenants::Tenants`]: a cache for each tenant, scope or origin, behind one layer |
//! | `cookies` | [`login::Session`] |
//! | `dpop` | [`oauth2::DpopKey`] (so `jwt` too): tokens that are bound to a key |
//! | `jwt` | keys and JWTs: [`oauth2::SigningKey`], [`oauth2::SignedJwt`], `private_key_jwt` |
//! | `authorization-code` | [`oauth2::AuthorizationCode`]: a person logs in with their browser |
//! | `redirect-listener` | [`oauth2::RedirectListener`] (so `authorization-code` too), which catches that browser on its way back |
//! | `metrics` | counters, gauges and histograms through the `metrics` facade: [`docs::watching`] |
//! | `reqwest-middleware` | [`layer::AuthMiddleware`] (so `reqwest` too): the layer in a chain of that crate's middlewares |
//! | `tower-http` | which origin sent the response that tower-http's `FollowRedirect` returns |
//! | `full` | all of them |
//!
//! Whatever is switched on, it runs on Tokio, and `unsafe` is forbidden. The minimum Rust version is 1.89.

#![cfg_attr(docsrs, feature(doc_cfg))]

// Small words that every part uses.
mod sync;

mod backoff;
mod clock;
mod sanitize;

mod error;

mod origin;
mod quota;

pub mod challenge;
pub mod token;

// Where a token comes from, and where it is shared.
pub mod source;

#[cfg(feature = "fleet")]
pub mod fleet;

// Which token is good, and who fetches the next.
pub mod cache;

// The life of one request.
pub mod layer;

#[cfg(feature = "tenants")]
pub mod tenants;

// How this crate itself talks HTTP.
mod http_client;

// Ready-made sources.
pub mod oauth2;

pub mod login;

pub mod docs;

pub use cache::token_cache::TokenCache;
pub use error::{BoxError, Error};
pub use layer::auth_layer::AuthLayer;
pub use layer::not_replayed::NotReplayed;
pub use layer::service::Auth;
pub use origin::Origin;
pub use source::api_key::ApiKey;
pub use source::secret_source::SecretSource;
pub use source::token_source::{Reason, TokenSource};
pub use token::issued_token::Token;
pub use token::place::Place;

/// The README's examples are compiled with the documentation's.
#[cfg(all(doctest, feature = "reqwest", feature = "tenants"))]
#[doc = include_str!("../README.md")]
struct Readme;
