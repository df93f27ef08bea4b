//! Mistakes that users make, one file for each. A file begins with what the compiler says about its
//! mistake.
//!
//! Nothing compiles this by default. `tests/it/documented/mistakes.rs` compiles it, and compares the texts.

use tower::Layer;
use tower_auth::{Auth, AuthLayer, Token};

mod client_error_is_no_error;
mod client_is_not_clone;
mod closure_is_not_async;
mod closure_moves_a_captured_value;
mod closure_returns_a_string;
mod closure_returns_anyhow;
mod credential_is_not_per_request;
mod future_is_not_send;
mod only_to_without_question_mark;
mod question_mark_on_anyhow;
mod request_of_another_version;
mod response_of_another_type;
mod source_is_a_string;
mod source_is_not_sync;

mod body_without_replay;

#[cfg(feature = "reqwest")]
mod request_is_not_built;

#[cfg(feature = "tenants")]
mod tenant_closure_returns_no_option;
#[cfg(feature = "tenants")]
mod tenant_is_not_hash;
#[cfg(all(feature = "tenants", feature = "reqwest"))]
mod tenant_of_a_request_without_extensions;

#[cfg(not(feature = "axum"))]
mod without_the_feature_axum;
#[cfg(not(feature = "hyper"))]
mod without_the_feature_hyper;
#[cfg(not(feature = "reqwest"))]
mod without_the_feature_reqwest;
#[cfg(not(feature = "tonic"))]
mod without_the_feature_tonic;

/// A client with the layer in front of it.
fn auth<S>(client: S) -> Auth<S>
where
    S: Clone,
{
    layer().layer(client)
}

fn layer() -> AuthLayer {
    AuthLayer::new(|_| async { Token::bearer("secret") }).any_https()
}

/// Plays the role of the crate `anyhow`. Its error converts into a boxed error, but isn't a
/// `std::error::Error`.
mod anyhow {
    pub(crate) type Result<T> = std::result::Result<T, Error>;

    pub(crate) struct Error;

    impl From<Error> for tower_auth::BoxError {
        fn from(_: Error) -> Self {
            "an error".into()
        }
    }
}
