//! The head of a request: what a credential may depend on.

use http::Method;

use crate::origin;

/// Where a request goes, as far as a credential may depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    /// `scheme://host`, in lower case, with the port if it isn't the scheme's own. `None` of a
    /// request whose address is only a path: the client below decides where it goes.
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

    #[cfg(feature = "cookies")]
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        let uri = request.uri();
        let (scheme, host) = (uri.scheme_str(), uri.host());
        Self::new(request.method(), scheme, host, uri.port_u16(), uri.path())
    }
}
