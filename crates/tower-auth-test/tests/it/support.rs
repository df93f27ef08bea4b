//! Shared helpers: requests, and what they got.

use std::panic::{AssertUnwindSafe, catch_unwind};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceExt};
use tower_auth::BoxError;
use tower_auth_test::{AuthorizationServer, ScriptedBody};

pub(crate) type Body = Full<bytes::Bytes>;

/// A request to the API in memory.
pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(format!("https://api.example.com{path}"))
        .body(Body::default())
        .unwrap()
}

/// A request to the API with this token.
pub(crate) fn get_with(path: &str, token: &str) -> Request<Body> {
    let mut request = get(path);
    let value = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", value);
    request
}

/// Sends a request to a fake server in memory.
pub(crate) async fn send<S>(
    server: &S,
    request: Request<Body>,
) -> Result<Response<ScriptedBody>, BoxError>
where
    S: Service<Request<Body>, Response = Response<ScriptedBody>, Error = BoxError> + Clone,
{
    server.clone().oneshot(request).await
}

/// Sends a form to the token endpoint, or to another path. Returns the status and the JSON body.
pub(crate) async fn post(
    server: &AuthorizationServer,
    path: &str,
    form: &[(&str, &str)],
) -> (StatusCode, serde_json::Value) {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let request = Request::post(format!("{}{path}", server.issuer()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body))
        .unwrap();
    let response = send(server, request).await.unwrap();
    let status = response.status();
    (
        status,
        serde_json::from_str(&text(response).await).unwrap_or_default(),
    )
}

/// Reads the whole body as text.
pub(crate) async fn text(response: Response<ScriptedBody>) -> String {
    let body = response.into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

/// Returns the text of the panic that the closure causes. The panic hook prints it too.
pub(crate) fn panic_message<T>(panics: impl FnOnce() -> T) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(panics)) else {
        panic!("nothing panicked");
    };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}
