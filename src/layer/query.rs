//! The query of an address (RFC 3986 §3.4), as a list of pairs that are left as they are written.

use zeroize::Zeroizing;

/// Whether there is a parameter of this name.
pub(crate) fn contains(query: Option<&str>, name: &str) -> bool {
    pairs(query).any(|pair| is_named(pair, name))
}

/// The query with `pair` behind all others, and without those of this name. In a buffer that never
/// grows, for it holds a secret.
pub(crate) fn with(query: Option<&str>, name: &str, pair: &str) -> Zeroizing<String> {
    let length = query.map_or(0, |query| query.len() + 1) + pair.len();
    let mut with = Zeroizing::new(String::with_capacity(length));
    for other in pairs(query).filter(|other| !is_named(other, name)) {
        with.push_str(other);
        with.push('&');
    }
    with.push_str(pair);
    with
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = &str> {
    let query = query.filter(|query| !query.is_empty());
    query.into_iter().flat_map(|query| query.split('&'))
}

fn is_named(pair: &str, name: &str) -> bool {
    let parsed = form_urlencoded::parse(pair.as_bytes()).next();
    parsed.is_some_and(|(of, _)| of == name)
}
