//! Settings from the environment. An empty variable is one that isn't set.

/// A variable that the example can do without.
pub fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable that it can't do without.
pub fn required(name: &str) -> Result<String, String> {
    optional(name).ok_or_else(|| format!("set the environment variable {name}"))
}
