//! Hostile input from other programs. Nothing panics, and no value is mistaken for something else.

mod replies;
mod servers;
