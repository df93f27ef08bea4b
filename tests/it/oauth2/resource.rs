//! What an API says of the tokens it wants: its metadata, and step-up challenges.

mod protected_resource;
mod step_up;
