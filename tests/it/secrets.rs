//! Secrets are shown nowhere.

mod of_sources;
mod shown;
