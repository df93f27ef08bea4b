//! The interface between the layer and the responses of any HTTP client.

use http::header::HeaderMap;
use http::{Extensions, StatusCode};
#[cfg(feature = "tower-http")]
use tower_http::follow_redirect::RequestUri;
#[cfg(feature = "tower-http")]
use zeroize::Zeroizing;

use super::query_key::QueryKey;
#[cfg(feature = "tower-http")]
use crate::origin;

/// A response that can refuse a credential. Two types implement this trait: `http::Response` with
/// any body, and `reqwest::Response`.
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
///
/// A response type of your own, around `http::Response`:
///
/// ```
/// use std::time::Duration;
///
/// use http::{Extensions, HeaderMap, Response, StatusCode};
/// use tower_auth::layer::AuthResponse;
///
/// struct Timed<B> {
///     took: Duration,
///     inner: Response<B>,
/// }
///
/// impl<B> AuthResponse for Timed<B> {
///     fn status(&self) -> StatusCode { self.inner.status() }
///     fn headers(&self) -> &HeaderMap { self.inner.headers() }
///     fn extensions(&self) -> &Extensions { self.inner.extensions() }
///     fn extensions_mut(&mut self) -> &mut Extensions { self.inner.extensions_mut() }
///
///     fn answered_by(&self) -> Option<(&str, &str, Option<u16>)> {
///         self.inner.answered_by()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the layer can't read responses of type `{Self}`",
    label = "this type doesn't implement `AuthResponse`",
    note = "the layer takes `http::Response` of http 1, and `reqwest::Response` of reqwest 0.13 with tower-auth's feature `reqwest`",
    note = "in `ServiceBuilder`, name a layer that changes the response before `AuthLayer`",
    note = "types of two versions of a crate have the same name: `cargo tree --duplicates` lists such crates"
)]
pub trait AuthResponse {
    /// Returns the status code.
    fn status(&self) -> StatusCode;

    /// Returns the header fields.
    fn headers(&self) -> &HeaderMap;

    /// Returns the scheme, host and port of the origin that sent the response, if the client
    /// records them. The port is `None` if it is the scheme's default.
    ///
    /// A client that follows redirects may return the response of another origin. The default
    /// implementation returns `None`. In this case, the response counts as a response of the
    /// request's own origin. [`AuthLayer::answered_by`](crate::AuthLayer::answered_by) can return
    /// another origin.
    fn answered_by(&self) -> Option<(&str, &str, Option<u16>)> {
        None
    }

    /// Removes the key from the URL in the response, if the response contains a URL.
    ///
    /// The layer calls this method if the credential is a key in the query. Clients put the URL of
    /// a response into later errors. The default implementation returns the response unchanged.
    #[must_use]
    fn without_key(self, key: &QueryKey<'_>) -> Self
    where
        Self: Sized,
    {
        let _ = key;
        self
    }

    /// Returns the extensions.
    fn extensions(&self) -> &Extensions;

    /// Returns the extensions, mutably. If the layer doesn't replay a refused request, the layer
    /// inserts a [`NotReplayed`](crate::NotReplayed) here.
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

    /// Removes the key from the URI that tower-http's `FollowRedirect` requested last.
    #[cfg(feature = "tower-http")]
    fn without_key(mut self, key: &QueryKey<'_>) -> Self {
        if let Some(RequestUri(uri)) = self.extensions_mut().get_mut() {
            let without = key.remove_from(&Zeroizing::new(uri.to_string()));
            if let Some(without) = without.and_then(|text| text.parse().ok()) {
                *uri = without;
            }
        }
        self
    }

    fn extensions(&self) -> &Extensions {
        self.extensions()
    }

    fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }
}
