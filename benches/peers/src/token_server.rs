//! The fetch of `issuer` over HTTP on loopback, for contenders whose public API accepts nothing
//! else. These are Google's library, Constructor Fabric's toolkit, and kube's plugins (processes
//! that call this server).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower::BoxError;

use crate::client::Call;
use crate::issuer::{Issued, Issuer};

/// A server that stops when it is dropped.
#[derive(Debug)]
pub struct TokenServer {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The form of a response, and the time between the token's real expiry and the stated expiry. The
/// difference compensates for a refresh window that users of the library can't change.
pub struct Reply {
    pub beyond: Duration,
    pub form: Form,
}

pub enum Form {
    /// The response of a token endpoint, with `expires_in` in seconds.
    OAuth,
    /// An `ExecCredential`. kube always requests a credential during its setup. The server returns
    /// this first credential at once, already expired, and doesn't count the fetch.
    Kube { is_set_up: AtomicBool },
}

impl TokenServer {
    pub fn start(issuer: Issuer, reply: Reply) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (started, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
                let address = listener.local_addr().expect("bound");
                started.send(address).expect("who started it waits");
                tokio::select! {
                    () = serve(listener, issuer, reply.into()) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address: address.recv().expect("it has started"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the token server ended well");
        }
    }
}

/// Keeps the server running while there are requests.
#[derive(Clone)]
pub struct Holding<T>(pub T, pub Arc<TokenServer>);

impl<T: Call> Call for Holding<T> {
    async fn call(&mut self) -> Result<(), BoxError> {
        self.0.call().await
    }
}

async fn serve(listener: TcpListener, issuer: Issuer, reply: Arc<Reply>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (issuer, reply) = (issuer.clone(), Arc::clone(&reply));
        let answer = service_fn(move |_: Request<Incoming>| {
            let (issuer, reply) = (issuer.clone(), Arc::clone(&reply));
            async move { Ok::<_, Infallible>(answer(&issuer, &reply).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

async fn answer(issuer: &Issuer, reply: &Reply) -> Response<Full<Bytes>> {
    let body = match &reply.form {
        Form::Kube { is_set_up } if !is_set_up.swap(true, Ordering::Relaxed) => {
            exec_credential(&issuer.issue(), Duration::ZERO)
        }
        form => match issuer.fetch().await {
            Err(_) => {
                let mut refusal = Response::new(Full::default());
                *refusal.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                return refusal;
            }
            Ok(issued) => {
                let told = issued.lives + reply.beyond;
                match form {
                    Form::OAuth => json!({
                        "access_token": issued.secret,
                        "token_type": "Bearer",
                        "expires_in": told.as_secs(),
                    }),
                    Form::Kube { .. } => exec_credential(&issued, told),
                }
            }
        },
    };
    let mut response = Response::new(Full::from(body.to_string()));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

fn exec_credential(issued: &Issued, told: Duration) -> serde_json::Value {
    json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {
            "token": issued.secret,
            "expirationTimestamp": (Timestamp::now() + told).to_string(),
        },
    })
}
