//! A source whose closure returns the error of another crate.
//!
//! ```text
//! error[E0277]: a source's closure has to return a future of `Result<Token, tower_auth::Error>`, and
//! = note: convert the error of another crate, such as an `anyhow::Error`, with `.map_err(Error::other)`
//! ```

use tower_auth::{AuthLayer, Token};

use crate::anyhow;

async fn from_the_vault() -> anyhow::Result<Token> {
    Err(anyhow::Error)
}

pub(crate) fn mistake() -> AuthLayer {
    AuthLayer::new(|_| from_the_vault())
}
