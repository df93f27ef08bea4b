//! Scopes (RFC 6749 §3.3): names separated by single spaces.

/// Joins scopes into one list. Each item may also be a list.
pub(crate) fn join<I>(scopes: I) -> String
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let mut list = String::new();
    for scope in scopes {
        for name in scope.as_ref().split_whitespace() {
            if !list.is_empty() {
                list.push(' ');
            }
            list.push_str(name);
        }
    }
    list
}
