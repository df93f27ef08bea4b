//! A store in Redis, for a fleet of processes on many machines.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Client, Script, Value};

use super::redis_connection::RedisConnection;
use super::token_store::{LIMIT, Lease, TokenStore, check_length};
use crate::error::{BoxError, Error, Kind};

/// Shares tokens through Redis 5 or later, Valkey, or another server with the same protocol.
///
/// | setting | default |
/// | --- | --- |
/// | [`prefix`](Self::prefix) | `tower-auth` |
///
/// Each token has two Redis keys: `tower-auth:{<key>}:token`, and `tower-auth:{<key>}:lease` during
/// a fetch. A cluster puts both keys in one slot. Both keys expire by themselves. Each operation is
/// one atomic script. The Redis user needs these rights:
/// `~tower-auth:* +evalsha +script|load +time +get +getrange +strlen +pttl +set +del`.
///
/// The fencing token of a lease is the time of the Redis server in microseconds. The fencing token
/// is always greater than the fencing token of the stored value. So fencing tokens still grow after
/// the clock was set back or the data was lost.
///
/// For `rediss://`, enable a TLS feature of the crate `redis`, such as `tokio-rustls-comp`. With
/// any other address, the password and the sealed tokens go over the network unencrypted.
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
    /// Makes a store at this address. The formats are:
    ///
    /// - `redis://[user][:password@]host[:port][/database]`
    /// - `rediss://`, with the same rest, for TLS
    /// - `unix:///path`
    ///
    /// The store connects at first use, so Redis may be down at startup.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid.
    pub fn open(url: impl AsRef<str>) -> Result<Self, Error> {
        let client = Client::open(url.as_ref()).map_err(|error| {
            let wrong = Error::new(
                Kind::Config,
                "the Redis address is invalid; write `redis://host:port`",
            );
            // The error's detail contains a part of the address, and this part may include the
            // password.
            match error.detail() {
                Some(_) => wrong.with_source(error.category().to_owned()),
                None => wrong.with_source(error),
            }
        })?;
        Ok(Self::with_connection(RedisConnection::new(client)))
    }
}

impl<C> RedisStore<C> {
    /// Makes a store over your own connection, for example to a cluster or through sentinels. The
    /// store adds no timeouts and doesn't reconnect, so the connection must have timeouts and must
    /// reconnect.
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

    /// Sets the prefix of the Redis keys. The prefix should contain no braces. All processes that
    /// share a token need the same prefix.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Returns the name of a Redis key. Because of the braces, a cluster puts all keys of a token
    /// in one slot.
    fn name(&self, key: &str, what: &str) -> String {
        format!("{}:{{{key}}}:{what}", self.prefix)
    }
}

/// The length of a fencing token as text. At this fixed length, texts sort as numbers do. The
/// length is enough for microseconds until the year 2286.
const DIGITS: usize = 16;

/// The greatest fencing token. The limit exists because Redis scripts use floating-point numbers.
const GREATEST: u64 = (1 << 53) - 1;

/// Returns the fencing token of the stored value. Returns zeros if this store didn't write the
/// value.
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

/// Grants a lease. Also replaces a lease without an expiry, which this store didn't write and which
/// would never end.
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
                "the key {} has {length} bytes, but a sealed token has at most 256 KiB; remove the key",
                self.name(key, "token")
            )
            .into()),
            _ => Err("Redis returned a value that isn't a string".into()),
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
            return Err("another store granted the lease".into());
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

/// Returns the fencing token in its stored form. The fencing token also identifies the owner of the
/// lease.
fn text(lease: &Lease) -> String {
    format!("{:0DIGITS$}", lease.fence())
}

/// Removes the fencing token. If this store didn't write the value, returns the value unchanged.
/// The cache then reports that it can't open the value.
fn without_fence(mut value: Vec<u8>) -> Vec<u8> {
    let fence = value.get(..DIGITS);
    if fence.is_some_and(|fence| fence.iter().all(u8::is_ascii_digit)) {
        value.drain(..DIGITS);
    }
    value
}

/// Limits the time to 100 years, so that adding it to Redis' clock doesn't overflow.
fn milliseconds(ttl: Duration) -> u64 {
    const CENTURY: u64 = 100 * 366 * 24 * 60 * 60 * 1000;
    u64::try_from(ttl.as_millis()).map_or(CENTURY, |ttl| ttl.min(CENTURY))
}
