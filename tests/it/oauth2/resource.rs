//! What an API states about the tokens it requires: its metadata, and step-up challenges.

mod protected_resource;
mod step_up;
