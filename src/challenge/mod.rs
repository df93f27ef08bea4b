//! What a server says in `WWW-Authenticate` as it refuses a request.

pub(crate) mod www_authenticate;

pub(crate) mod step_up;
