//! A [Tower](https://docs.rs/tower) layer that authenticates outgoing HTTP requests.
//!
//! The layer attaches a token to each request. Concurrent requests share one fetch of the token.
//! The layer refreshes the token before its expiry. If the server refuses a token, the layer sends
//! the request once more with a new token. Request and response types stay the same:
//!
//! ```text
//! AuthLayer::new(impl TokenSource): S ─▶ Auth<S>
//! S, Auth<S>: Service<Request, Response = Response>
//!             + Clone
//! ```
//!
//! ```no_run
//! # #[cfg(feature = "reqwest")] mod example {
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_auth::{AuthLayer, BoxError, oauth2::ClientCredentials};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let url = "https://example.auth0.com/oauth/token";
//!     let source = ClientCredentials::new(url, "id", "secret")?
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
//! | question | page |
//! | --- | --- |
//! | What happens to a token and a request? What are the defaults? | [`docs::how_it_works`] |
//! | Which source fits my API? | [`docs::choosing`] |
//! | How does a program use the identity of the place where it runs? | [`docs::platforms`] |
//! | What do other libraries do, and where are they better? | [`docs::comparing`] |
//! | How do I migrate from my own code, `reqwest-middleware` or `oauth2`? | [`docs::migrating`] |
//! | What is the right order of layers? | [`docs::composing`] |
//! | Where does a service keep the client? What does it do at startup and shutdown? | [`docs::in_a_service`] |
//! | How do I test my own code without a network and without sleeping? | [`docs::testing`] |
//! | What do callers see when something fails? | [`docs::faults`] |
//! | Which threats does the crate handle, and what do I have to do? | [`docs::security`] |
//! | How does each of many tenants get its own token? | [`docs::tenants`] |
//! | How do many processes share one token? | [`docs::fleet`] |
//! | How does a web app get a token for each of its users? | [`docs::web_app`] |
//! | What is there for health checks, logs and metrics? | [`docs::watching`] |
//!
//! # The parts
//!
//! ```text
//! request ─▶ Auth<S> ─▶ inner service ─▶ response
//!               │             │
//!               │             │ refused: reject that
//!               ▼             ▼ token, replay once
//!           TokenCache   fresh: no wait, no lock
//!               │        stale: refresh in background
//!               ▼        none: join the single flight
//!           TokenSource  fetches on a detached task
//! ```
//!
//! - A [`TokenSource`] fetches a token. [`oauth2`] has sources for OAuth 2, and [`login`] for an API's own login.
//!   [`ApiKey`], [`SecretSource`] and any closure that returns a [`Token`] are sources too.
//! - A [`TokenCache`] stores the token and decides when to fetch the next token. The cache also
//!   works without Tower: `cache.token().await`. [`cache::Status`] describes the cache's state.
//!   [`Error`] says why there is no token.
//! - [`AuthLayer`] and [`Auth`] attach the token to requests. [`NotReplayed`] says why a refused
//!   request wasn't sent again. A [`challenge::Challenge`] contains what the server said in the
//!   refusal. A request's body has to implement [`layer::Replay`].
//! - [`tenants::Tenants`] keeps a cache for each tenant. A [`fleet::Fleet`] shares a token with other processes.
//!
//! # Features
//!
//! All features are additive.
//!
//! | feature | adds |
//! | --- | --- |
//! | `reqwest` (default) | `reqwest::Request`, `Response` and `Body`, and reqwest as the client for token endpoints |
//! | `hyper` | `hyper::body::Incoming` as a request body |
//! | `axum` | `axum::body::Body` as a request body |
//! | `tonic` | `tonic::body::Body` as a request body |
//! | `fleet` | [`fleet::Fleet`]: processes that share a token through a [`fleet::TokenStore`]; [`fleet::MemoryStore`]; [`oauth2::SharedLogin`] |
//! | `file` | [`fleet::FileStore`] (so `fleet` too), [`oauth2::RefreshTokenFile`] |
//! | `redis` | [`fleet::RedisStore`] (so `fleet` too) |
//! | `tenants` | [`tenants::Tenants`]: a cache for each tenant, scope or origin, behind one layer |
//! | `cookies` | [`login::Session`] |
//! | `dpop` | [`oauth2::DpopKey`] (so `jwt` too): tokens that are bound to a key |
//! | `jwt` | keys and JWTs: [`oauth2::SigningKey`], [`oauth2::SignedJwt`], `private_key_jwt` |
//! | `authorization-code` | [`oauth2::AuthorizationCode`]: a person logs in with a browser |
//! | `redirect-listener` | [`oauth2::RedirectListener`] (so `authorization-code` too), which receives the redirected browser |
//! | `metrics` | counters, gauges and histograms through the `metrics` facade: see [`docs::watching`] |
//! | `reqwest-middleware` | [`layer::AuthMiddleware`] (so `reqwest` too): the layer in a chain of `reqwest-middleware` |
//! | `gzip` | [compressed responses](oauth2::Transport#content-codings) of token endpoints, logins and metadata |
//! | `serde` | [`oauth2::ClientCredentialsConfig`]: settings from a configuration; also reads [`SecretSource`] and [`Origin`] |
//! | `command` | [`platform::Command`]: a program that prints a credential |
//! | `gcp` | [`platform::gcp`] (so `command` and `jwt` too): identities on Google Cloud |
//! | `azure` | [`platform::azure`]: managed identities and workload identities |
//! | `github` | [`platform::github`] (so `jwt` too): installations of a GitHub App, and the identity of a job in GitHub Actions |
//! | `kubernetes` | [`platform::kubernetes`]: the service account of a pod, and tokens for other audiences |
//! | `vault` | [`platform::vault`]: logins to HashiCorp Vault and OpenBao |
//! | `tower-http` | the origin of responses that tower-http's `FollowRedirect` returns |
//! | `full` | all features |
//!
//! The crate runs on Tokio and forbids `unsafe`. The minimum Rust version is 1.89.

#![cfg_attr(docsrs, feature(doc_cfg))]

// Small types and functions that every part uses.
mod sync;

mod backoff;
mod clock;
mod sanitize;

mod error;

mod origin;
mod quota;

pub mod challenge;
pub mod token;

// Sources of tokens, and stores that share tokens.
pub mod source;

#[cfg(feature = "fleet")]
pub mod fleet;

// Decides which token is valid, and which task fetches the next token.
pub mod cache;

// Carries out the steps of a request.
pub mod layer;

#[cfg(feature = "tenants")]
pub mod tenants;

// Sends this crate's own HTTP requests.
mod http_client;

// Ready-made sources of tokens.
pub mod oauth2;

pub mod login;

#[cfg(any(
    feature = "azure",
    feature = "command",
    feature = "gcp",
    feature = "github",
    feature = "kubernetes",
    feature = "vault"
))]
pub mod platform;

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

/// Runs the README's example as a doc test.
#[cfg(all(doctest, feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
