//! A store in Redis, for a fleet of processes on many machines.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Client, Script, Value};

use super::redis_connection::RedisConnection;
use super::token_store::{LIMIT, Lease, TokenStore, check_length};
use crate::error::{BoxError, Error, Kind};

/// Shares tokens through Redis (5 or later), Valkey, or another server with their protocol.
///
/// | setting | default |
/// | --- | --- |
/// | [`prefix`](Self::prefix) | `tower-auth` |
///
/// Each token has two keys, in one slot of a cluster: `tower-auth:{<key>}:token`, and
/// `tower-auth:{<key>}:lease` during a fetch. Both expire by themselves. Each operation is one atomic
/// script. A Redis user needs
/// `~tower-auth:* +evalsha +script|load +time +get +getrange +strlen +pttl +set +del`.
///
/// The fencing token of a lease is Redis' time in microseconds, and greater than that of the stored token:
/// so it grows even if the data were lost, or the clock was set back.
///
/// For `rediss://` switch on a feature of the crate `redis`, such as `tokio-rustls-comp`. With any other
/// address the password, if it has one, is sent in the clear, and the sealed tokens too.
///
/// # Example
///
/// ```
/// use tower_auth::fleet::RedisStore;
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let store = RedisStore::open("redis://127.0.0.1:6379")?.prefix("reports");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RedisStore<C = RedisConnection> {
    connection: C,
    prefix: Arc<str>,
}

impl RedisStore {
    /// A store at this address: `redis://[user][:password@]host[:port][/database]`, `rediss://` the same
    /// over TLS, `unix:///path`. It connects when it is first needed, so a Redis that is down at the
    /// start is no error.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it isn't such an address.
    pub fn open(url: impl AsRef<str>) -> Result<Self, Error> {
        let client = Client::open(url.as_ref()).map_err(|error| {
            let wrong = Error::new(Kind::Config, "this is no address of a Redis");
            // A detail is a piece of the address, in which the password may be anywhere.
            match error.detail() {
                Some(_) => wrong.with_source(error.category().to_owned()),
                None => wrong.with_source(error),
            }
        })?;
        Ok(Self::with_connection(RedisConnection::new(client)))
    }
}

impl<C> RedisStore<C> {
    /// A store over a connection of your own: of a cluster, of sentinels. The connection has its own
    /// timeouts and reconnects by itself; the store does neither.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use tower_auth::fleet::RedisStore;
    /// use tower_auth::BoxError;
    ///
    /// # async fn example() -> Result<(), BoxError> {
    /// let client = redis::Client::open("redis://127.0.0.1:6379")?;
    /// let store = RedisStore::with_connection(client.get_multiplexed_async_connection().await?);
    /// # Ok(()) }
    /// ```
    pub fn with_connection(connection: C) -> Self {
        let prefix = Arc::from("tower-auth");
        Self { connection, prefix }
    }

    /// The start of the keys. All processes that share a token need the same; it should contain no braces.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The braces make a cluster put all keys of a token in one slot.
    fn name(&self, key: &str, what: &str) -> String {
        format!("{}:{{{key}}}:{what}", self.prefix)
    }
}

/// The length of a fencing token as text, which sorts like the number: microseconds until the year 2286.
const DIGITS: usize = 16;

/// The greatest fencing token: scripts calculate in floating point.
const GREATEST: u64 = (1 << 53) - 1;

/// The fencing token of the stored value; zeros if it isn't a value of this store.
const FENCE_OF: &str = "
    local function fence_of(key)
        local head = redis.call('GETRANGE', key, 0, 15)
        if #head == 16 and not head:find('%D') and head < '9007199254740991' then
            return head
        end
        return '0000000000000000'
    end";

static LOAD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
    local length = redis.call('STRLEN', KEYS[1])
    if length > tonumber(ARGV[1]) then
        return length
    end
    return redis.call('GET', KEYS[1])",
    )
});

static SAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{FENCE_OF}
    if fence_of(KEYS[1]) > ARGV[1] then
        return 0
    end
    redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
    return 1"
    ))
});

/// A lease without an expiry isn't one of this store, and would never end: it is replaced.
static LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{FENCE_OF}
    if redis.call('GET', KEYS[2]) and redis.call('PTTL', KEYS[2]) >= 0 then
        return false
    end
    local now = redis.call('TIME')
    local fence = math.max(now[1] * 1000000 + now[2], fence_of(KEYS[1]) + 1)
    fence = string.format('%016.0f', fence)
    redis.call('SET', KEYS[2], fence, 'PX', ARGV[1])
    return fence"
    ))
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
    if redis.call('GET', KEYS[1]) == ARGV[1] then
        return redis.call('DEL', KEYS[1])
    end
    return 0",
    )
});

impl<C> TokenStore for RedisStore<C>
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    async fn load(&self, key: &str) -> Result<Option<Vec<u8>>, BoxError> {
        let mut connection = self.connection.clone();
        let mut script = LOAD.prepare_invoke();
        script.key(self.name(key, "token")).arg(DIGITS + LIMIT);
        match script.invoke_async(&mut connection).await? {
            Value::Nil => Ok(None),
            Value::BulkString(value) => Ok(Some(without_fence(value))),
            Value::Int(length) => Err(format!(
                "the key {} holds {length} bytes, and no sealed token has more than 256 KiB; remove it",
                self.name(key, "token")
            )
            .into()),
            _ => Err("Redis returned something else than a text".into()),
        }
    }

    async fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        lease: &Lease,
    ) -> Result<bool, BoxError> {
        check_length(sealed.len())?;
        if lease.fence() > GREATEST {
            return Err("the lease is of another store".into());
        }
        let ttl = milliseconds(ttl);
        if ttl == 0 {
            return Ok(false);
        }
        let mut connection = self.connection.clone();
        let mut script = SAVE.prepare_invoke();
        script.key(self.name(key, "token"));
        script.arg(text(lease)).arg(sealed).arg(ttl);
        Ok(script.invoke_async(&mut connection).await?)
    }

    async fn lease(&self, key: &str, ttl: Duration) -> Result<Option<Lease>, BoxError> {
        let mut connection = self.connection.clone();
        let mut script = LEASE.prepare_invoke();
        script
            .key(self.name(key, "token"))
            .key(self.name(key, "lease"));
        script.arg(milliseconds(ttl).max(1));
        let fence: Option<u64> = script.invoke_async(&mut connection).await?;
        Ok(fence.map(Lease::new))
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<bool, BoxError> {
        let mut connection = self.connection.clone();
        let mut script = RELEASE.prepare_invoke();
        script.key(self.name(key, "lease")).arg(text(&lease));
        Ok(script.invoke_async(&mut connection).await?)
    }
}

/// The fencing token as it is stored, which also marks the owner of the lease.
fn text(lease: &Lease) -> String {
    format!("{:0DIGITS$}", lease.fence())
}

/// A value that isn't of this store is returned as it is: opening the seal reports it.
fn without_fence(mut value: Vec<u8>) -> Vec<u8> {
    let fence = value.get(..DIGITS);
    if fence.is_some_and(|fence| fence.iter().all(u8::is_ascii_digit)) {
        value.drain(..DIGITS);
    }
    value
}

/// At most a hundred years: the sum with Redis' clock must not overflow.
fn milliseconds(ttl: Duration) -> u64 {
    const CENTURY: u64 = 100 * 366 * 24 * 60 * 60 * 1000;
    u64::try_from(ttl.as_millis()).map_or(CENTURY, |ttl| ttl.min(CENTURY))
}
