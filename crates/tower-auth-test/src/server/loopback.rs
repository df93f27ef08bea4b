//! A fake server on a port of 127.0.0.1.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tower_auth::BoxError;
use tower_service::Service as _;

use super::body::ScriptedBody;
use super::flushes::{CountsFlushes, Flushes};
use super::scripted::ScriptedServer;

/// A fake server that listens on a port of 127.0.0.1. It stops when this value is dropped, and its
/// connections are closed.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::ClientCredentials;
/// use tower_auth_test::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let server = AuthorizationServer::new();
/// let running = server.serve().await?;
/// assert_eq!(running.origin(), format!("http://{}", running.address()));
/// let url = running.url("/oauth/token");
/// let source = ClientCredentials::new(url, "my-service", "a-secret")?;
/// let cache = tower_auth::TokenCache::new(source);
/// assert_eq!(cache.token().await?.secret(), "token-1");
/// # Ok(()) }
/// ```
#[must_use = "the server stops when this value is dropped"]
pub struct Loopback {
    address: SocketAddr,
    accepting: AbortHandle,
    _running: Arc<Running>,
}

/// Exists while the server runs.
struct Running;

impl Loopback {
    pub(super) async fn start(server: ScriptedServer) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let running = Arc::new(Running);
        let accepting = tokio::spawn(accept(listener, server, Arc::downgrade(&running)));
        Ok(Self {
            address,
            accepting: accepting.abort_handle(),
            _running: running,
        })
    }

    /// Returns the address and the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the origin, such as `http://127.0.0.1:40513`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the URL of a path.
    ///
    /// # Panics
    ///
    /// If the path doesn't start with `/`.
    #[track_caller]
    pub fn url(&self, path: &str) -> String {
        assert!(path.starts_with('/'), "{path:?} doesn't start with `/`");
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        // The task owns the connections' tasks, which end with it.
        self.accepting.abort();
    }
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loopback").field(&self.address).finish()
    }
}

async fn accept(listener: TcpListener, server: ScriptedServer, running: Weak<Running>) {
    let mut connections = JoinSet::new();
    loop {
        // A connection that was closed before it was accepted is no reason to stop.
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(connection(stream, server.clone(), running.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, server: ScriptedServer, running: Weak<Running>) {
    let builder = Builder::new(TokioExecutor::new());
    // Otherwise a small frame may wait 40 ms for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let flushes = Flushes::default();
    let stream = CountsFlushes::new(TokioIo::new(stream), flushes.clone());
    let service = service_fn(|request| {
        // Other threads may run this task once more before it is aborted.
        let server = (running.strong_count() > 0).then(|| server.clone());
        respond(server, request, flushes.clone())
    });
    // A connection ends with an error if the script resets it.
    let _ = builder.serve_connection(stream, service).await;
}

async fn respond(
    server: Option<ScriptedServer>,
    request: Request<Incoming>,
    flushes: Flushes,
) -> Result<Response<ScriptedBody>, BoxError> {
    let Some(mut server) = server else {
        return Err("the server has stopped".into());
    };
    let mut response = server.call(request).await?;
    response.body_mut().flush_before_reset(&flushes);
    Ok(response)
}
