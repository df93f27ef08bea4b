//! Tokens that satisfy a protected resource: its metadata, and step-up after a refusal.

pub(crate) mod resource_metadata;

pub(crate) mod protected_resource;

pub(crate) mod step_up;
