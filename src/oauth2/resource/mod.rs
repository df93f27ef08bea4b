//! Tokens for a protected resource: from its metadata, and by step-up after a refusal.

pub(crate) mod resource_metadata;

pub(crate) mod protected_resource;

pub(crate) mod step_up;
