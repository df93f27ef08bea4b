//! Shares tokens between processes: the stores, and the keys that seal the tokens.

pub(crate) mod failure;

pub(crate) mod codec;
pub(crate) mod keyring;

pub(crate) mod store;

pub(crate) mod held_lease;

pub(crate) mod settings;

pub use crate::source::store_key::StoreKey;
pub use keyring::Keyring;
pub use settings::Fleet;
#[cfg(feature = "file")]
pub use store::file::FileStore;
pub use store::memory::MemoryStore;
#[cfg(feature = "redis")]
pub use store::redis::RedisStore;
#[cfg(feature = "redis")]
pub use store::redis_connection::RedisConnection;
pub use store::token_store::{Lease, StoredValue, TokenStore};
