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
/// /// Why a refused request was not sent again, for every client's response type.
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

    /// The origin that sent the response, if the client says so: scheme, host, and the port unless
    /// it is the scheme's default. A client that follows redirects may return another origin's
    /// response. Default: `None`.
    fn answered_by(&self) -> Option<(&str, &str, Option<u16>)> {
        None
    }

    /// The extensions, mutably: the layer inserts the reason why it did not
    /// [replay](crate::NotReplayed) a refused request.
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
