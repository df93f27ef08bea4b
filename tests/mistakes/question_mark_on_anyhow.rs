//! A source whose closure applies `?` to the error of another crate.
//!
//! ```text
//! `?` couldn't convert the error
//! write `.map_err(Error::other)?`, or `.map_err(Error::transient)?` if the error may pass by itself
//! ```

use tower_auth::{AuthLayer, Token};

use crate::anyhow;

async fn from_the_vault() -> anyhow::Result<String> {
    Err(anyhow::Error)
}

pub(crate) fn mistake() -> AuthLayer {
    AuthLayer::new(|_| async { Token::bearer(from_the_vault().await?) })
}
