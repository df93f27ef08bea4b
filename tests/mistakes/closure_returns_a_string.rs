//! A source whose closure returns a text instead of a token.
//!
//! ```text
//! error[E0277]: a source's closure has to return a future of `Result<Token, tower_auth::Error>`, and
//! this closure doesn't return a future of `Result<Token, tower_auth::Error>`
//! ```

use tower_auth::AuthLayer;

pub(crate) fn mistake() -> AuthLayer {
    AuthLayer::new(|_| async { Ok(String::from("secret")) })
}
