//! reqwest as the transport: a client that a source makes for itself, or the user's own.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use reqwest::Client;
use reqwest::redirect::Policy;

use super::transport::{DynTransport, ResponseFuture, SealedTransport, erase};
use crate::error::{BoxError, Error, Kind};

/// Well below the 10 s of the whole exchange, so that the error of an address where no server
/// listens says so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const USER_AGENT: &str = concat!("tower-auth/", env!("CARGO_PKG_VERSION"));

/// A [`reqwest::Client`] of your own as the [`Transport`](crate::oauth2::Transport): with a private root
/// certificate, a proxy, or a client certificate (mutual TLS, RFC 8705).
///
/// Build the client with `redirect(reqwest::redirect::Policy::none())`; otherwise the secret goes
/// where a redirect points.
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
/// let source = ClientCredentials::new(url, id, secret)?.transport(ReqwestTransport::new(http));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ReqwestTransport {
    client: Client,
}

impl ReqwestTransport {
    /// A transport over this client.
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

/// Makes a client that follows no redirects and sends no `Referer`.
pub(crate) fn make() -> Result<DynTransport, Error> {
    let client = Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(USER_AGENT)
        .build()
        .map_err(|error| {
            let message = "no HTTP client can be made for the token endpoint; check the \
                           system's root certificates, or give a client with `.transport(…)`";
            Error::new(Kind::Config, message).with_source(error.without_url())
        })?;
    Ok(DynTransport::new(ReqwestTransport { client }))
}

/// Sends a request. Errors omit the address, because its query may have a key.
async fn send(
    client: Client,
    request: Request<Full<Bytes>>,
) -> Result<Response<impl Body<Data = Bytes, Error = reqwest::Error>>, BoxError> {
    let (parts, body) = request.into_parts();
    // As bytes and not as a stream, so that reqwest can send the body again if the server closed
    // the pooled connection.
    let body = body.collect().await?.to_bytes();
    let request = reqwest::Request::try_from(Request::from_parts(parts, body))
        .map_err(reqwest::Error::without_url)?;
    let response = client
        .execute(request)
        .await
        .map_err(reqwest::Error::without_url)?;
    Ok(Response::from(response).map(|body| body.map_err(reqwest::Error::without_url)))
}
