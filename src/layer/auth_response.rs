//! What the layer needs of a response, whichever client it comes from.

use http::header::HeaderMap;
use http::{Extensions, StatusCode};
#[cfg(feature = "tower-http")]
use tower_http::follow_redirect::RequestUri;

#[cfg(feature = "tower-http")]
use crate::origin;

/// A response that can refuse a credential: `http::Response` with any body, and
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
    /// The status code.
    fn status(&self) -> StatusCode;

    /// The header fields.
    fn headers(&self) -> &HeaderMap;

    /// The origin that sent the response, if the client records the origin: scheme, host, and the port
    /// unless it is the scheme's default. A client that follows redirects may return another origin's
    /// response. Default: `None`. Then the response counts as one of the request's own origin, unless
    /// [`AuthLayer::answered_by`](crate::AuthLayer::answered_by) returns another.
    fn answered_by(&self) -> Option<(&str, &str, Option<u16>)> {
        None
    }

    /// The extensions.
    fn extensions(&self) -> &Extensions;

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

    /// The URI that tower-http's `FollowRedirect` requested last.
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
