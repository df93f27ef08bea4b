//! What the layer needs of a response, whichever client it comes from.

use http::header::HeaderMap;
use http::{Extensions, StatusCode};

/// A response that can refuse a credential: `http::Response` with any body, and
/// `reqwest::Response`.
///
/// # Example
///
/// ```
/// use tower_auth::{AuthResponse, NotReplayed};
///
/// /// The same of whatever client's responses.
/// fn why_refused(response: &mut impl AuthResponse) -> Option<String> {
///     let reason = response.extensions_mut().get::<NotReplayed>();
///     reason.map(ToString::to_string)
/// }
/// ```
pub trait AuthResponse {
    /// The status code.
    fn status(&self) -> StatusCode;

    /// The header fields.
    fn headers(&self) -> &HeaderMap;

    /// Who answered, where the client says so: scheme, host, and port if it isn't the scheme's own.
    /// One that follows redirects may bring the answer of another origin than the one asked.
    fn answered_by(&self) -> Option<(&str, &str, Option<u16>)> {
        None
    }

    /// The extensions, where the layer leaves why it didn't [replay](crate::NotReplayed).
    fn extensions_mut(&mut self) -> &mut Extensions;
}

impl<B> AuthResponse for http::Response<B> {
    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }
}
