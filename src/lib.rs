//! tower-auth
#![cfg_attr(docsrs, feature(doc_cfg))]

// Floor 0: the words.
mod clock;
mod error;
mod token;

mod challenge;
mod flight;
mod replay;

// Floor 1: where a token comes from.
mod source;

// Floor 2: the state machine, and the lock around it.
mod freshness;

mod state;

mod cache;

// Floor 3: the life of one request.
mod origin;

mod http;

mod gate;
mod refusal;

mod policy;

mod stamp;

mod future;

mod service;

mod layer;

// Floor 4: ready-made sources.
pub mod oauth2;

pub use cache::{Acquire, TokenCache, TokenCacheBuilder};
pub use challenge::Challenge;
pub use clock::{Clock, Moment};
pub use error::{BoxError, Error};
pub use future::ResponseFuture;
pub use gate::Origin;
#[cfg(feature = "reqwest")]
pub use http::ReqwestCopy;
pub use http::{AuthRequest, AuthResponse, RequestCopy};
pub use layer::AuthLayer;
pub use refusal::NotReplayed;
pub use replay::Replay;
pub use service::Auth;
pub use source::{Reason, TokenSource};
pub use token::Token;
