//! A connection to Redis that opens at its first use, and again after a failure.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult,
    ServerErrorKind, Value,
};
use tokio::runtime::Handle;

/// The connection of a [`RedisStore`](crate::fleet::RedisStore) that was [opened by
/// address](crate::fleet::RedisStore::open). Clones share one connection.
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
    client: Client,
    opened: Mutex<Option<SharedConnection>>,
}

/// A connection that is open or opening.
type SharedConnection = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// The maximum time of background work whose callers have given up. Callers wait for a shorter
/// time.
const LIMIT: Duration = Duration::from_secs(5);

impl RedisConnection {
    pub(super) fn new(client: Client) -> Self {
        let opened = Mutex::new(None);
        Self {
            inner: Arc::new(ConnectionInner { client, opened }),
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
        let shared = connect(self.inner.client.clone()).boxed().shared();
        *opened = Some(shared.clone());
        drop(opened);
        runtime.spawn(shared.clone().map(drop));
        Ok((shared, false))
    }

    /// Removes the server's text from the error. If the server doesn't know the command, the text
    /// may contain the command with the password.
    fn without_detail(&self, error: RedisError) -> RedisError {
        let settings = self.inner.client.get_connection_info().redis_settings();
        if settings.password().is_none() || error.detail().is_none() {
            return error;
        }
        let code = error.code().unwrap_or("no code").to_owned();
        (error.kind(), "Redis refused the connection", code).into()
    }
}

async fn connect(client: Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(LIMIT))
        .set_response_timeout(Some(LIMIT));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// A connection for one command.
struct CommandConnection {
    connection: MultiplexedConnection,
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
        let info = self.inner.client.get_connection_info();
        info.redis_settings().db()
    }
}

/// Shows the address without the password.
impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.inner.client.get_connection_info().addr();
        let address = address.to_string();
        f.debug_tuple("RedisConnection").field(&address).finish()
    }
}
