//! Processes that share a token, and the stores by which they do.

mod faults;
mod processes;
mod sealing;
mod sharing;
mod sizing;
mod store_contract;
mod store_file;
mod store_redis;
