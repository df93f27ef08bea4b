//! The head of a request, as credentials made for each request see it.

use http::Method;

use crate::origin;

/// The method and target of a request: all that a per-request credential may depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    /// The target's origin as [`origin::serialize`] writes it. `None` if the request's URI is only
    /// a path: the client below decides where the request goes.
    pub(crate) origin: Option<String>,
    pub(crate) path: String,
}

impl RequestHead {
    pub(crate) fn new(
        method: &Method,
        scheme: Option<&str>,
        host: Option<&str>,
        port: Option<u16>,
        path: &str,
    ) -> Self {
        let origin = scheme.zip(host);
        Self {
            method: method.clone(),
            origin: origin.map(|(scheme, host)| origin::serialize(scheme, host, port)),
            path: path.to_owned(),
        }
    }

    /// The head of a request that this crate sends itself.
    #[cfg(feature = "cookies")]
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        let uri = request.uri();
        let (scheme, host) = (uri.scheme_str(), uri.host());
        Self::new(request.method(), scheme, host, uri.port_u16(), uri.path())
    }
}
