//! Secrets are read where they are kept, and shown nowhere.

mod of_sources;
mod shown;
mod source;
