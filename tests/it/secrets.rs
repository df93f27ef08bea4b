//! No output shows a secret.

mod of_sources;
mod shown;
