//! A store in Redis.
