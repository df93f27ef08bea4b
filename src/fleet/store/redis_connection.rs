//! A connection to a Redis server or cluster that opens at its first use, and again after a failure.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisError, RedisFuture, RedisResult, ServerErrorKind, Value,
};
use tokio::runtime::Handle;

/// The connection of a [`RedisStore`](crate::fleet::RedisStore) that was opened by
/// [address](crate::fleet::RedisStore::open), or by the addresses of a
/// [cluster](crate::fleet::RedisStore::open_cluster). Clones share one connection.
///
/// The first command opens the connection on a separate task. The task continues if the command is
/// cancelled. If a command fails, is cancelled or gets no response within 5 s, the next command
/// connects again. So one command fails after the server restarts, or after the server's name gets
/// a new address. If the server only closed an idle connection, no command fails.
///
/// `redis::aio::ConnectionManager` isn't used, for these reasons:
///
/// - The manager needs a runtime when it is created.
/// - After the server rejects a password, the manager keeps returning that error.
/// - The manager keeps a connection that no longer responds.
/// - If the server closes an idle connection, the manager notices this only when a command fails.
#[derive(Clone)]
pub struct RedisConnection {
    inner: Arc<ConnectionInner>,
}

struct ConnectionInner {
    server: Server,
    /// The addresses, with their passwords. A cluster may have several.
    addresses: Vec<ConnectionInfo>,
    opened: Mutex<Option<SharedConnection>>,
}

/// What the connection leads to.
#[derive(Clone)]
enum Server {
    One(Client),
    Cluster(ClusterClient),
}

/// An open connection.
#[derive(Clone)]
enum OpenConnection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A connection that is open or opening.
type SharedConnection = Shared<BoxFuture<'static, RedisResult<OpenConnection>>>;

/// The maximum time of background work whose callers have given up. Callers wait for a shorter
/// time.
const LIMIT: Duration = Duration::from_secs(5);

impl RedisConnection {
    /// Makes a connection to one server.
    pub(super) fn to_server(address: &str) -> RedisResult<Self> {
        let client = Client::open(address)?;
        let addresses = vec![client.get_connection_info().clone()];
        Ok(Self::new(Server::One(client), addresses))
    }

    /// Makes a connection to a cluster. At first use, one of the servers must answer.
    pub(super) fn to_cluster(addresses: &[&str]) -> RedisResult<Self> {
        let addresses = addresses
            .iter()
            .map(|address| address.into_connection_info());
        let addresses = addresses.collect::<RedisResult<Vec<_>>>()?;
        let client = ClusterClient::builder(addresses.clone())
            .connection_timeout(LIMIT)
            .response_timeout(LIMIT)
            .build()?;
        Ok(Self::new(Server::Cluster(client), addresses))
    }

    fn new(server: Server, addresses: Vec<ConnectionInfo>) -> Self {
        Self {
            inner: Arc::new(ConnectionInner {
                server,
                addresses,
                opened: Mutex::new(None),
            }),
        }
    }

    async fn connection(&self) -> RedisResult<CommandConnection> {
        let (shared, was_open) = self.shared()?;
        let connection = shared.clone().await;
        let guard = ReconnectGuard {
            inner: Arc::clone(&self.inner),
            shared,
            is_disarmed: false,
        };
        // The guard discards a failed connection, so the guard must exist before the error returns.
        let connection = connection.map_err(|error| self.without_detail(error))?;
        Ok(CommandConnection {
            connection,
            was_open,
            guard,
        })
    }

    /// Returns the connection and whether it was already open.
    fn shared(&self) -> RedisResult<(SharedConnection, bool)> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let mut opened = self.inner.lock();
        if let Some(shared) = &*opened {
            return Ok((shared.clone(), shared.peek().is_some()));
        }
        let shared = self.inner.server.clone().connect().boxed().shared();
        *opened = Some(shared.clone());
        drop(opened);
        runtime.spawn(shared.clone().map(drop));
        Ok((shared, false))
    }

    /// Removes the server's text from the error. If the server doesn't know the command, the text
    /// may contain the command with the password.
    fn without_detail(&self, error: RedisError) -> RedisError {
        let mut addresses = self.inner.addresses.iter();
        let has_password = addresses.any(|it| it.redis_settings().password().is_some());
        if !has_password || error.detail().is_none() {
            return error;
        }
        let code = error.code().unwrap_or("no code").to_owned();
        (error.kind(), "Redis refused the connection", code).into()
    }
}

impl Server {
    async fn connect(self) -> RedisResult<OpenConnection> {
        match self {
            Self::One(client) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(LIMIT))
                    .set_response_timeout(Some(LIMIT));
                let opening = client.get_multiplexed_async_connection_with_config(&config);
                opening.await.map(OpenConnection::One)
            }
            Self::Cluster(client) => {
                let opening = client.get_async_connection();
                opening.await.map(OpenConnection::Cluster)
            }
        }
    }
}

impl ConnectionLike for OpenConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// A connection for one command.
struct CommandConnection {
    connection: OpenConnection,
    was_open: bool,
    guard: ReconnectGuard,
}

impl CommandConnection {
    /// Keeps the connection if the command succeeded or the server doesn't have the script. Returns
    /// whether to send the command again. The result is `true` only if the command failed because
    /// the server had closed the idle connection.
    fn should_retry<T>(mut self, result: &RedisResult<T>) -> bool {
        match result {
            Err(error) if error.kind() != NO_SCRIPT => {
                self.was_open && error.is_connection_dropped()
            }
            _ => {
                self.guard.is_disarmed = true;
                false
            }
        }
    }
}

/// The error of a server that doesn't have a script. This error is expected, because the client
/// then sends the script.
const NO_SCRIPT: ErrorKind = ErrorKind::Server(ServerErrorKind::NoScript);

/// A guard that makes the next command open another connection. The guard acts when it is dropped,
/// but not if it was disarmed.
struct ReconnectGuard {
    inner: Arc<ConnectionInner>,
    shared: SharedConnection,
    is_disarmed: bool,
}

impl Drop for ReconnectGuard {
    fn drop(&mut self) {
        if !self.is_disarmed {
            // The old connection is dropped only after the lock is released.
            let is_ours = |shared: &mut SharedConnection| shared.ptr_eq(&self.shared);
            let _failed = self.inner.lock().take_if(is_ours);
        }
    }
}

impl ConnectionInner {
    fn lock(&self) -> MutexGuard<'_, Option<SharedConnection>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            loop {
                let mut command = self.connection().await?;
                let result = command.connection.req_packed_command(cmd).await;
                // The errors of the Redis server arrive as `Ok` values.
                let result = result.and_then(Value::extract_error);
                if !command.should_retry(&result) {
                    return result;
                }
            }
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            loop {
                let mut command = self.connection().await?;
                let connection = &mut command.connection;
                let result = connection
                    .req_packed_commands(pipeline, offset, count)
                    .await;
                if !command.should_retry(&result) {
                    return result;
                }
            }
        })
    }

    fn get_db(&self) -> i64 {
        let first = self.inner.addresses.first();
        first.map_or(0, |address| address.redis_settings().db())
    }
}

/// Shows the addresses without their passwords.
impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_tuple("RedisConnection");
        for address in &self.inner.addresses {
            shown.field(&address.addr().to_string());
        }
        shown.finish()
    }
}
