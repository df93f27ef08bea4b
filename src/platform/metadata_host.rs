//! Which hosts may get an unencrypted request: loopback, and the metadata servers of platforms.

use http::Uri;

use crate::error::{Error, Kind};
use crate::http_client::endpoint_url::EndpointUrl;
use crate::origin::{GOOGLE_METADATA, is_loopback_or_link_local};
use crate::sanitize::ServerText;

/// Checks an address that may be `http` only on loopback, on a link-local address and on Google's
/// metadata server. No other machine can read these connections. `what` names the setting or the
/// variable that contains the address.
///
/// The crate's own HTTP client uses no proxy for these hosts.
pub(crate) fn checked(what: &str, url: &str) -> Result<EndpointUrl, Error> {
    let address = EndpointUrl::danger_allow_http(url).map_err(|error| {
        Error::new(
            Kind::Config,
            format!("{what} is no usable address: {error}"),
        )
    })?;
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let is_https = uri.as_ref().and_then(Uri::scheme_str) == Some("https");
    if is_https || host.eq_ignore_ascii_case(GOOGLE_METADATA) || is_loopback_or_link_local(host) {
        return Ok(address);
    }
    let message = format!(
        "{what} is http to `{}`, so the token could be read in transit; use https, a loopback \
         address or a link-local address",
        ServerText::new(host)
    );
    Err(Error::new(Kind::Config, message))
}
