//! The transport over reqwest: the default client of a source, or the user's own client.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use reqwest::Client;
use reqwest::redirect::Policy;

use super::transport::{DynTransport, ResponseFuture, SealedTransport, erase};
use crate::error::{BoxError, Error, Kind};

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

/// Creates a client that follows no redirects and sends no `Referer`.
pub(crate) fn make() -> Result<DynTransport, Error> {
    let client = Client::builder()
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
