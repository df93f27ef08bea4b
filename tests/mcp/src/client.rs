//! The SDK's HTTP client, over the layer. For authentication, the client only has to pass on a
//! refusal.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, SseError, StreamableHttpClient, StreamableHttpError,
    StreamableHttpPostResponse,
};
use sse_stream::{Sse, SseStream};
use tower::ServiceExt;
use tower_auth::{Auth, BoxError};

const SESSION: &str = "mcp-session-id";

#[derive(Clone)]
pub struct Client {
    pub http: Auth<reqwest::Client>,
}

/// The error of the layer or of the client below it.
#[derive(Debug)]
pub struct Failed(pub BoxError);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

type Result<T> = std::result::Result<T, StreamableHttpError<Failed>>;

fn failed(error: impl Into<BoxError>) -> StreamableHttpError<Failed> {
    StreamableHttpError::Client(Failed(error.into()))
}

impl Client {
    async fn send(
        &self,
        method: Method,
        uri: &str,
        headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        body: Option<String>,
    ) -> Result<reqwest::Response> {
        let mut request = reqwest::Request::new(method, uri.parse().map_err(failed)?);
        let both = HeaderValue::from_static("application/json, text/event-stream");
        request.headers_mut().extend(headers);
        request.headers_mut().insert(ACCEPT, both);
        if let Some(body) = body {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
            *request.body_mut() = Some(body.into());
        }
        let response = self.http.clone().oneshot(request).await.map_err(failed)?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = response.headers().get(WWW_AUTHENTICATE);
            let challenge = challenge.and_then(|value| value.to_str().ok());
            let error = AuthRequiredError::new(challenge.unwrap_or_default().to_owned());
            return Err(StreamableHttpError::AuthRequired(error));
        }
        Ok(response)
    }
}

/// Returns the headers of a request, with the session id if there is a session.
fn in_session(
    headers: HashMap<HeaderName, HeaderValue>,
    session: Option<Arc<str>>,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let session = session.and_then(|id| HeaderValue::from_str(&id).ok());
    let session = session.map(|id| (HeaderName::from_static(SESSION), id));
    headers.into_iter().chain(session)
}

fn events(response: reqwest::Response) -> BoxStream<'static, std::result::Result<Sse, SseError>> {
    SseStream::from_bytes_stream(response.bytes_stream()).boxed()
}

impl StreamableHttpClient for Client {
    type Error = Failed;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse> {
        let body = serde_json::to_string(&message)?;
        let headers = in_session(headers, session);
        let response = self.send(Method::POST, &uri, headers, Some(body)).await?;
        let is_accepted =
            [StatusCode::ACCEPTED, StatusCode::NO_CONTENT].contains(&response.status());
        if is_accepted {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let response = response.error_for_status().map_err(failed)?;
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let session = header(SESSION);
        if header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return Ok(StreamableHttpPostResponse::Sse(events(response), session));
        }
        let message = serde_json::from_slice(&response.bytes().await.map_err(failed)?)?;
        Ok(StreamableHttpPostResponse::Json(message, session))
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        _: Option<String>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, std::result::Result<Sse, SseError>>> {
        let headers = in_session(headers, session);
        let response = self.send(Method::GET, &uri, headers, None).await?;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        Ok(events(response.error_for_status().map_err(failed)?))
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<()> {
        let headers = in_session(headers, Some(session));
        self.send(Method::DELETE, &uri, headers, None)
            .await
            .map(drop)
    }
}
