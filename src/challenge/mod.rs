//! Challenges (`WWW-Authenticate`) of a server that refuses a request.

pub(crate) mod www_authenticate;

pub(crate) mod step_up;

pub use step_up::StepUpChallenge;
pub use www_authenticate::Challenge;
