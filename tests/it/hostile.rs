//! Whatever others send: nothing panics, and nothing is taken for what it isn't.

mod replies;
mod servers;
