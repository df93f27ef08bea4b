//! `tower-auth` beside what others use for the same job: the same client below, the same fetch behind,
//! and each asked the same questions in one run.
//!
//! [`contenders`] holds a file for each that is compared, [`questions`] one for each thing that is asked
//! of them. What they share is in [`issuer`] (the fetch), [`token_server`] (the same fetch for those who
//! insist on HTTP or a process) and [`client`] (what sends the request in the end).

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
