//! Compares `tower-auth` with alternatives for the same job. All alternatives use the same client
//! and the same fetch, and answer the same questions in one run.
//!
//! [`contenders`] has a file for each alternative. [`questions`] has a file for each measurement.
//! Both use [`issuer`], which is the fetch, and [`client`], which contains the clients.
//! [`token_server`] offers the fetch to contenders that need HTTP or a process.

pub mod client;
pub mod contenders;
pub mod issuer;
#[path = "../../support/look_for_401.rs"]
mod look_for_401;
#[cfg(feature = "peers")]
#[path = "../../support/meeting.rs"]
mod meeting;

#[cfg(feature = "peers")]
pub mod picture;
#[cfg(feature = "peers")]
pub mod questions;
#[cfg(feature = "peers")]
pub mod report;
#[cfg(feature = "peers")]
pub mod token_server;
