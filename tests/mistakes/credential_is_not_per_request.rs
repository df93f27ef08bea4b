//! A per-request credential whose type doesn't implement the trait.
//!
//! ```text
//! error[E0277]: `Signer` is not a credential that is made for each request
//! this type doesn't implement `PerRequestCredential`
//! = note: implement `tower_auth::token::PerRequestCredential` for it, or return a fixed credential: `Token::bearer`, `Token::header`
//! ```

use std::sync::Arc;

use http::header::AUTHORIZATION;
use tower_auth::{Place, Token};

struct Signer;

pub(crate) fn mistake() -> Token {
    Token::per_request(Place::Header(AUTHORIZATION), "id", Arc::new(Signer))
}
