//! The transport over reqwest: the default client of a source, or the user's own client.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Url};

use super::transport::{DynTransport, ResponseFuture, SealedTransport, erase};
use crate::error::{BoxError, Error, Kind};
use crate::origin::{GOOGLE_METADATA, is_loopback_or_link_local};

/// The timeout for connecting. It is well below the 10 s for the whole request. If no server
/// responds at the address, the error therefore names the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const USER_AGENT: &str = concat!("tower-auth/", env!("CARGO_PKG_VERSION"));

/// A [`Transport`](crate::oauth2::Transport) over your own [`reqwest::Client`]. Use this transport
/// to set a private root certificate, a proxy, or a client certificate (mutual TLS, RFC 8705).
///
/// Build the client with `redirect(reqwest::redirect::Policy::none())`. Otherwise reqwest sends the
/// secret to the target of a redirect.
///
/// reqwest also reads the proxy variables of the environment, such as `HTTP_PROXY`. Your client
/// then sends requests for loopback to the proxy too, [unless you prevent
/// this](crate::docs::security#proxies).
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::{ClientCredentials, ReqwestTransport};
///
/// # fn example(id: String, secret: String) -> Result<(), tower_auth::BoxError> {
/// let http = reqwest::Client::builder()
///     .redirect(reqwest::redirect::Policy::none())
///     .build()?;
/// let url = "https://id.example.com/token";
/// let source = ClientCredentials::new(url, id, secret)?
///     .transport(ReqwestTransport::new(http));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ReqwestTransport {
    client: Client,
}

impl ReqwestTransport {
    /// Creates a transport over `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl SealedTransport for ReqwestTransport {
    fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        let client = self.client.clone();
        Box::pin(async move { Ok(send(client, request).await?.map(erase)) })
    }
}

/// Creates the client for hosts that may need a proxy. The client uses the proxies of the
/// environment.
pub(crate) fn make() -> Result<DynTransport, Error> {
    build(Client::builder())
}

/// Creates the client for hosts that [need no proxy](needs_no_proxy).
pub(crate) fn make_without_proxy() -> Result<DynTransport, Error> {
    build(Client::builder().no_proxy())
}

/// Returns whether requests to this host never go through a proxy. Most such requests are
/// cleartext, so a proxy would read the secret. A proxy on another machine couldn't reach the host
/// either: it would connect to its own loopback.
pub(crate) fn needs_no_proxy(uri: &Uri) -> bool {
    // reqwest connects to the host that `Url` parses. For example, `Url` reads `127.1` as
    // `127.0.0.1`.
    let url = Url::parse(&uri.to_string()).ok();
    let is_direct = |host: &str| is_loopback_or_link_local(host) || host == GOOGLE_METADATA;
    url.is_some_and(|url| url.host_str().is_some_and(is_direct))
}

/// Creates a client that follows no redirects and sends no `Referer`.
fn build(builder: ClientBuilder) -> Result<DynTransport, Error> {
    let client = builder
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(USER_AGENT)
        .build()
        .map_err(|error| {
            let message = "could not create an HTTP client for the token endpoint; check the \
                           system's root certificates, or set a client with `.transport(…)`";
            Error::new(Kind::Config, message).with_source(error.without_url())
        })?;
    Ok(DynTransport::new(ReqwestTransport { client }))
}

/// Sends a request. Errors omit the address, because the query may contain a key.
async fn send(
    client: Client,
    request: Request<Full<Bytes>>,
) -> Result<Response<impl Body<Data = Bytes, Error = reqwest::Error>>, BoxError> {
    let (parts, body) = request.into_parts();
    // reqwest gets bytes instead of a stream. If the server closed the pooled connection, reqwest
    // can then send the body again.
    let body = body.collect().await?.to_bytes();
    let request = reqwest::Request::try_from(Request::from_parts(parts, body))
        .map_err(reqwest::Error::without_url)?;
    let response = client
        .execute(request)
        .await
        .map_err(reqwest::Error::without_url)?;
    Ok(Response::from(response).map(|body| body.map_err(reqwest::Error::without_url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_hosts_need_no_proxy_however_they_are_spelled() {
        for host in [
            "localhost",
            "LocalHost.",
            "a.b.localhost",
            "a.localhost.",
            "127.0.0.1",
            "127.255.255.254",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0177.0.0.1",
            "0.0.0.0",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "169.254.0.0",
            "169.254.169.254",
            "0xa9fea9fe",
            "[fe80::1]",
            "[febf::1]",
            "[::ffff:169.254.1.1]",
            "metadata.google.internal",
            "Metadata.Google.Internal",
        ] {
            for port in ["", ":8080"] {
                let url = format!("http://{host}{port}/token?x=y");
                assert!(url.parse().is_ok_and(|uri| needs_no_proxy(&uri)), "{url}");
            }
        }
    }

    #[test]
    fn all_other_hosts_may_need_a_proxy() {
        for host in [
            "id.example.com",
            "localhost.example.com",
            "notlocalhost",
            "localhost-",
            "127.0.0.1.nip.io",
            "128.0.0.1",
            "10.0.0.1",
            "192.168.1.1",
            "169.253.255.255",
            "metadata.google.internal.example.com",
            "a.metadata.google.internal",
            "169.255.0.1",
            "[fec0::1]",
            "[fd00:ec2::254]",
            "[2001:db8::1]",
            "[::ffff:10.0.0.1]",
        ] {
            let url = format!("https://{host}/token");
            assert!(url.parse().is_ok_and(|uri| !needs_no_proxy(&uri)), "{url}");
        }
        assert!(!needs_no_proxy(&Uri::from_static("/token")));
    }
}
