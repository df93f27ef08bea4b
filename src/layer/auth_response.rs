//! What the layer needs from a response of any HTTP client.

use http::header::HeaderMap;
use http::{Extensions, StatusCode};
#[cfg(feature = "tower-http")]
use tower_http::follow_redirect::RequestUri;

#[cfg(feature = "tower-http")]
use crate::origin;

/// A response that can refuse a credential. Implemented for `http::Response` with any body, and for
/// `reqwest::Response`.
///
/// # Example
///
/// ```
/// use tower_auth::layer::AuthResponse;
/// use tower_auth::NotReplayed;
///
/// /// Why a refused request was not sent again, for every client's response type.
/// fn why_refused(response: &mut impl AuthResponse) -> Option<String> {
///     let reason = response.extensions_mut().get::<NotReplayed>();
///     reason.map(ToString::to_string)
/// }
/// ```
pub trait AuthResponse {
    /// Returns the status code.
    fn status(&self) -> StatusCode;

    /// Returns the header fields.
    fn headers(&self) -> &HeaderMap;

    /// Returns the origin that sent the response, if the client records it: scheme, host, and the
    /// port unless it is the scheme's default.
    ///
    /// A client that follows redirects may return the response of another origin. With the default,
    /// `None`, the response counts as one of the request's own origin, unless
    /// [`AuthLayer::answered_by`](crate::AuthLayer::answered_by) returns another.
    fn answered_by(&self) -> Option<(&str, &str, Option<u16>)> {
        None
    }

    /// Returns the extensions.
    fn extensions(&self) -> &Extensions;

    /// Returns the extensions, mutably. The layer inserts a [`NotReplayed`](crate::NotReplayed)
    /// here when it doesn't replay a refused request.
    fn extensions_mut(&mut self) -> &mut Extensions;
}

impl<B> AuthResponse for http::Response<B> {
    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    /// Returns the origin that tower-http's `FollowRedirect` requested last.
    #[cfg(feature = "tower-http")]
    fn answered_by(&self) -> Option<(&str, &str, Option<u16>)> {
        let RequestUri(uri) = self.extensions().get()?;
        origin::parts_of(uri)
    }

    fn extensions(&self) -> &Extensions {
        self.extensions()
    }

    fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }
}
