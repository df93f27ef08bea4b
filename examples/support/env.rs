//! Settings from the environment. An empty variable counts as unset.

/// Reads an optional variable.
pub fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads a required variable.
pub fn required(name: &str) -> Result<String, String> {
    optional(name).ok_or_else(|| format!("set the environment variable {name}"))
}
