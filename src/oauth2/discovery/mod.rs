//! Discovery: finds the metadata of authorization servers and resources from their addresses.

pub(crate) mod document;

pub(crate) mod cached_document;

pub(crate) mod issuer;
