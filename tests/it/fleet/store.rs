//! What each store keeps, and for how long.

mod contract;
mod file;
mod redis;
