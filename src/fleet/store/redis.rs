//! A store in Redis, for a fleet of processes on many machines.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{RedisError, Script, Value};

use super::redis_connection::RedisConnection;
use super::token_store::{LIMIT, LONGEST_LEASE, Lease, StoredValue, TokenStore, check_length};
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
        let connection = RedisConnection::to_server(url.as_ref());
        Ok(Self::with_connection(connection.map_err(invalid_address)?))
    }

    /// Makes a store in a Redis cluster. Pass the address of at least one server of the cluster, in
    /// a format of [`open`](Self::open). All addresses need the same user, password and TLS.
    ///
    /// The store connects at first use, so the cluster may be down at startup.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if there is no address, if an address is invalid, or if the
    /// addresses differ in more than host and port.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::fleet::RedisStore;
    ///
    /// let store = RedisStore::open_cluster(["redis://10.0.0.1:6379", "redis://10.0.0.2:6379"])?;
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn open_cluster<I>(urls: I) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let urls: Vec<I::Item> = urls.into_iter().collect();
        let urls: Vec<&str> = urls.iter().map(AsRef::as_ref).collect();
        let connection = RedisConnection::to_cluster(&urls);
        Ok(Self::with_connection(connection.map_err(invalid_address)?))
    }
}

fn invalid_address(error: RedisError) -> Error {
    let message = "the Redis address is invalid; write `redis://host:port`";
    let wrong = Error::new(Kind::Config, message);
    // The error's detail contains a part of the address, and this part may include the password.
    match error.detail() {
        Some(_) => wrong.with_source(error.category().to_owned()),
        None => wrong.with_source(error),
    }
}

impl<C> RedisStore<C> {
    /// Makes a store over your own connection, for example through sentinels. The store adds no
    /// timeouts and doesn't reconnect, so the connection must have timeouts and must reconnect.
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

/// Returns whether an answer is an error because the key has a value of another type. Any other
/// error fails the script.
const IS_WRONG_TYPE: &str = "
    local function is_wrong_type(answer)
        if type(answer) ~= 'table' or not answer.err then
            return false
        end
        if answer.err:find('^WRONGTYPE') then
            return true
        end
        error(answer.err)
    end";

/// Returns the fencing token of the stored value. Returns zeros if this store didn't write the
/// value.
const FENCE_OF: &str = "
    local function fence_of(key)
        local head = redis.pcall('GETRANGE', key, 0, 15)
        if is_wrong_type(head) then
            return '0000000000000000'
        end
        if #head == 16 and not head:find('%D') and head < '9007199254740991' then
            return head
        end
        return '0000000000000000'
    end";

/// Returns whether a later lease has saved the value.
const IS_NEWER: &str = "
    local function is_newer(key, fence)
        return fence_of(key) > fence
    end";

/// Returns whether a process still has the lease with this fencing token.
const IS_HELD: &str = "
    local function is_held(key, fence)
        local held = redis.pcall('GET', key)
        return not is_wrong_type(held) and held == fence
    end";

/// Returns nothing, or the value and its remaining time. For a foreign value, returns a number: -1
/// if the value isn't a string, -2 if the value never expires, or else its length.
static LOAD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{IS_WRONG_TYPE}
    local length = redis.pcall('STRLEN', KEYS[1])
    if is_wrong_type(length) then
        return -1
    end
    if length > tonumber(ARGV[1]) then
        return length
    end
    local value = redis.call('GET', KEYS[1])
    if not value then
        return false
    end
    local left = redis.call('PTTL', KEYS[1])
    if left < 0 then
        return -2
    end
    return {{value, left}}"
    ))
});

/// Saves a value. If the request arrived late, the value has aged meanwhile. The fencing token is the
/// time of the lease, and the process says how long ago it got the lease.
static SAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{IS_WRONG_TYPE}{FENCE_OF}{IS_NEWER}
    if is_newer(KEYS[1], ARGV[1]) then
        return 0
    end
    local now = redis.call('TIME')
    local since_lease = (now[1] * 1000000 + now[2] - ARGV[1]) / 1000
    local late = math.max(math.floor(since_lease - ARGV[4]), 0)
    local left = math.max(ARGV[3] - late, 1)
    redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', string.format('%.0f', left))
    return 1"
    ))
});

static DELETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{IS_WRONG_TYPE}{FENCE_OF}{IS_NEWER}
    if is_newer(KEYS[1], ARGV[1]) then
        return 0
    end
    return redis.call('DEL', KEYS[1])"
    ))
});

/// Grants a lease, and returns its fencing token. Also returns whether the lease replaced a value
/// that this store can't have written. Such a value has another type, no expiry, or more time left
/// than any lease.
static LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{IS_WRONG_TYPE}{FENCE_OF}
    local taken = redis.pcall('GET', KEYS[2])
    local is_foreign = is_wrong_type(taken)
    if taken and not is_foreign then
        local left = redis.call('PTTL', KEYS[2])
        if left >= 0 and left <= tonumber(ARGV[2]) then
            return false
        end
        is_foreign = true
    end
    local now = redis.call('TIME')
    local fence = math.max(now[1] * 1000000 + now[2], fence_of(KEYS[1]) + 1)
    fence = string.format('%016.0f', fence)
    redis.call('SET', KEYS[2], fence, 'PX', ARGV[1])
    return {{fence, is_foreign and 1 or 0}}"
    ))
});

static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{IS_WRONG_TYPE}{IS_HELD}
    if not is_held(KEYS[1], ARGV[1]) then
        return 0
    end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1"
    ))
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{IS_WRONG_TYPE}{IS_HELD}
    if not is_held(KEYS[1], ARGV[1]) then
        return 0
    end
    return redis.call('DEL', KEYS[1])"
    ))
});

impl<C> TokenStore for RedisStore<C>
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    async fn load(&self, key: &str) -> Result<Option<StoredValue>, BoxError> {
        let mut connection = self.connection.clone();
        let name = self.name(key, "token");
        let mut script = LOAD.prepare_invoke();
        script.key(&name).arg(DIGITS + LIMIT);
        let answer: Value = script.invoke_async(&mut connection).await?;
        let foreign = |what: &str| {
            let what = format!("the Redis key {name} {what}");
            Ok(Some(StoredValue::foreign(what)))
        };
        match answer {
            Value::Nil => Ok(None),
            Value::Int(-1) => foreign("isn't a string"),
            Value::Int(-2) => foreign("has no expiry"),
            Value::Int(length) => foreign(&format!(
                "has {length} bytes, but a sealed token has at most 256 KiB"
            )),
            Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                Ok([Value::BulkString(value), Value::Int(left)]) => {
                    let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
                    Ok(Some(StoredValue::new(without_fence(value), left)))
                }
                _ => Err("Redis returned an unexpected answer".into()),
            },
            _ => Err("Redis returned an unexpected answer".into()),
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
        script.arg(milliseconds(lease.age()));
        Ok(script.invoke_async(&mut connection).await?)
    }

    async fn delete(&self, key: &str, lease: &Lease) -> Result<bool, BoxError> {
        let mut connection = self.connection.clone();
        let mut script = DELETE.prepare_invoke();
        script.key(self.name(key, "token")).arg(text(lease));
        Ok(script.invoke_async(&mut connection).await?)
    }

    async fn lease(&self, key: &str, ttl: Duration) -> Result<Option<Lease>, BoxError> {
        let mut connection = self.connection.clone();
        let lease_name = self.name(key, "lease");
        let mut script = LEASE.prepare_invoke();
        script.key(self.name(key, "token")).key(&lease_name);
        script.arg(milliseconds(ttl).max(1));
        script.arg(milliseconds(LONGEST_LEASE));
        let granted: Option<(u64, bool)> = script.invoke_async(&mut connection).await?;
        let Some((fence, is_foreign)) = granted else {
            return Ok(None);
        };
        let lease = Lease::new(fence);
        Ok(Some(match is_foreign {
            true => lease.replacing(format!("the Redis key {lease_name} was no lease")),
            false => lease,
        }))
    }

    async fn renew(&self, key: &str, lease: &Lease, ttl: Duration) -> Result<bool, BoxError> {
        let mut connection = self.connection.clone();
        let mut script = RENEW.prepare_invoke();
        script.key(self.name(key, "lease"));
        script.arg(text(lease)).arg(milliseconds(ttl).max(1));
        Ok(script.invoke_async(&mut connection).await?)
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
