//! Tokens as a protected resource says that it wants them: its metadata, and step-up.

pub(crate) mod resource_metadata;

pub(crate) mod protected_resource;

pub(crate) mod step_up;
