//! A connection to Redis that is made when it is first needed, and again when it was lost.

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

/// The connection of a [`RedisStore`](crate::RedisStore) that was [opened](crate::RedisStore::open) by
/// an address. Clones share it.
///
/// It is made when a command first needs it, on a task of its own: who waits for it may leave, and the
/// next one finds it made. A command that fails, isn't answered in 5 s, or is left before it is answered
/// makes the next command connect anew, so a server that was restarted, or whose name now leads to
/// another, costs one failed command. One that closed the connection while nobody used it costs none.
///
/// `redis::aio::ConnectionManager` won't do here: it needs a runtime to be made, keeps the refusal of a
/// password for good, keeps a connection that nothing comes from any more, and notices one that was
/// closed while idle, as it is between two tokens, only by failing a command.
#[derive(Clone)]
pub struct RedisConnection {
    shared: Arc<Redis>,
}

struct Redis {
    client: Client,
    link: Mutex<Option<Link>>,
}

/// A connection that is made, or being made.
type Link = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// Who waits has less patience. This bounds what goes on when they have left.
const LIMIT: Duration = Duration::from_secs(5);

impl RedisConnection {
    pub(super) fn new(client: Client) -> Self {
        let link = Mutex::new(None);
        Self {
            shared: Arc::new(Redis { client, link }),
        }
    }

    async fn lend(&self) -> RedisResult<Lent> {
        let (link, was_made) = self.link()?;
        let connection = link.clone().await;
        let doubt = Doubt {
            of: Arc::clone(&self.shared),
            link,
            is_allayed: false,
        };
        // With the doubt, so that a refusal isn't kept.
        let connection = connection.map_err(|error| self.unquoted(error))?;
        Ok(Lent {
            connection,
            was_made,
            doubt,
        })
    }

    /// The connection, and whether it was made by now.
    fn link(&self) -> RedisResult<(Link, bool)> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let mut kept = self.shared.link();
        if let Some(link) = &*kept {
            return Ok((link.clone(), link.peek().is_some()));
        }
        let link = connect(self.shared.client.clone()).boxed().shared();
        *kept = Some(link.clone());
        drop(kept);
        runtime.spawn(link.clone().map(drop));
        Ok((link, false))
    }

    /// A server that doesn't know the command that the password is in may repeat it.
    fn unquoted(&self, error: RedisError) -> RedisError {
        let settings = self.shared.client.get_connection_info().redis_settings();
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
struct Lent {
    connection: MultiplexedConnection,
    was_made: bool,
    doubt: Doubt,
}

impl Lent {
    /// Judges the connection by what came of the command, and says whether to send it again: if nothing
    /// was wrong but that the connection had been closed before.
    fn wants_another<T>(mut self, result: &RedisResult<T>) -> bool {
        match result {
            Err(error) if error.kind() != NO_SCRIPT => {
                self.was_made && error.is_connection_dropped()
            }
            _ => {
                self.doubt.is_allayed = true;
                false
            }
        }
    }
}

/// The one error that belongs to the way things go: a script is sent when it isn't there.
const NO_SCRIPT: ErrorKind = ErrorKind::Server(ServerErrorKind::NoScript);

/// Unless it is allayed, the next command gets another connection.
struct Doubt {
    of: Arc<Redis>,
    link: Link,
    is_allayed: bool,
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if !self.is_allayed {
            // Dropped when the lock is free again.
            let _lost = self.of.link().take_if(|link| link.ptr_eq(&self.link));
        }
    }
}

impl Redis {
    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            loop {
                let mut lent = self.lend().await?;
                let result = lent.connection.req_packed_command(cmd).await;
                // A server's refusal comes as a value.
                let result = result.and_then(Value::extract_error);
                if !lent.wants_another(&result) {
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
                let mut lent = self.lend().await?;
                let connection = &mut lent.connection;
                let result = connection
                    .req_packed_commands(pipeline, offset, count)
                    .await;
                if !lent.wants_another(&result) {
                    return result;
                }
            }
        })
    }

    fn get_db(&self) -> i64 {
        let info = self.shared.client.get_connection_info();
        info.redis_settings().db()
    }
}

/// Where it leads, without the password.
impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.shared.client.get_connection_info().addr();
        let address = address.to_string();
        f.debug_tuple("RedisConnection").field(&address).finish()
    }
}
