//! Nothing that can be printed shows a secret, and nothing is logged that holds one: tokens, the
//! layer, and one source for all. What each source has of its own is in `secrets::of_sources`.

mod echoed;
mod logged;
mod printed;
