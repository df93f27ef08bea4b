//! The challenges with which a server refuses a request (`WWW-Authenticate`).

pub(crate) mod www_authenticate;

pub(crate) mod step_up;
