//! Where in a request a credential goes.

use std::sync::Arc;

use http::header::HeaderName;

/// Where in a request a credential goes.
///
/// # Example
///
/// ```
/// use tower_auth::{ApiKey, Place, TokenSource};
///
/// let key = ApiKey::new("secret").query("api_key")?;
/// assert_eq!(key.place(), Place::Query("api_key".into()));
/// # Ok::<(), tower_auth::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// A header field, such as `Authorization`.
    Header(HeaderName),
    /// A query parameter with this name, such as `api_key`.
    Query(Arc<str>),
    /// The `Cookie` header, in addition to the caller's own cookies.
    Cookie,
}
