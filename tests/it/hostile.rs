//! Hostile input from other programs. No input causes a panic or is taken for another value.

mod replies;
mod servers;
mod texts;
