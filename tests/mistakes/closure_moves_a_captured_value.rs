//! A source whose closure moves a captured value into the first future, so that it can't be called
//! again.
//!
//! ```text
//! error[E0525]: expected a closure that implements the `Fn` trait, but this closure only implements `FnOnce`
//! ```

use tower_auth::{AuthLayer, Token};

pub(crate) fn mistake(key: String) -> AuthLayer {
    AuthLayer::new(move |_| async move { Token::bearer(key.clone()) })
}
