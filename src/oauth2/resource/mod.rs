//! What a protected resource says of the tokens that it wants.

pub(crate) mod resource_metadata;

pub(crate) mod protected_resource;

pub(crate) mod step_up;
