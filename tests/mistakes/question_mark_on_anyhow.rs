//! A source whose closure returns the error of another crate by `?`. The text is the compiler's own: the trait is
//! the standard library's.
//!
//! ```text
//! error[E0277]: `?` couldn't convert the error to `tower_auth::Error`
//! ```

use tower_auth::{AuthLayer, Token};

use crate::anyhow;

async fn from_the_vault() -> anyhow::Result<String> {
    Err(anyhow::Error)
}

pub(crate) fn mistake() -> AuthLayer {
    AuthLayer::new(|_| async { Token::bearer(from_the_vault().await?) })
}
