//! One binary for every behaviour, a file each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
