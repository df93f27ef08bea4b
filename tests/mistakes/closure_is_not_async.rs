//! A source whose closure returns a token instead of a future of a token.
//!
//! ```text
//! error[E0277]: a source's closure has to return a future of `Result<Token, tower_auth::Error>`, and
//! Result<Token, tower_auth::Error>` is not one
//! = note: return `async move { … }`, or `std::future::ready(…)` if there is nothing to wait for
//! ```

use tower_auth::{AuthLayer, Token};

pub(crate) fn mistake() -> AuthLayer {
    AuthLayer::new(|_| Token::bearer("secret"))
}
