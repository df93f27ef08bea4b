//! A text in place of a source.
//!
//! ```text
//! error[E0277]: `&str` is not a source of tokens
//! this type doesn't implement `TokenSource`
//! = note: a closure is a source: `|_| async { Token::bearer("…") }`; its future returns `Result<Token, tower_auth::Error>`
//! = note: an API key is `ApiKey::new(…)`; `tower_auth::oauth2` and `tower_auth::login` have other sources
//! ```

use tower_auth::AuthLayer;

pub(crate) fn mistake() -> AuthLayer {
    AuthLayer::new("secret")
}
