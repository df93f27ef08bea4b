//! A cache for each tenant, behind one layer.

mod evicted;

pub(crate) mod registry;

pub(crate) mod service;
