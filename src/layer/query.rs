//! A URI's query (RFC 3986 §3.4) as a list of pairs. Other pairs than the credential stay as
//! written.

use zeroize::Zeroizing;

/// Whether the query has a parameter with this name.
pub(crate) fn contains(query: Option<&str>, name: &str) -> bool {
    pairs(query).any(|pair| is_named(pair, name))
}

/// Replaces all parameters with this name by `pair`, which becomes the last. The pair is a secret,
/// so the buffer never grows: growing would leave a copy behind.
pub(crate) fn replace(query: Option<&str>, name: &str, pair: &str) -> Zeroizing<String> {
    let length = query.map_or(0, |query| query.len() + 1) + pair.len();
    let mut replaced = Zeroizing::new(String::with_capacity(length));
    for other in pairs(query).filter(|other| !is_named(other, name)) {
        replaced.push_str(other);
        replaced.push('&');
    }
    replaced.push_str(pair);
    replaced
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = &str> {
    let query = query.filter(|query| !query.is_empty());
    query.into_iter().flat_map(|query| query.split('&'))
}

fn is_named(pair: &str, name: &str) -> bool {
    let parsed = form_urlencoded::parse(pair.as_bytes()).next();
    parsed.is_some_and(|(key, _)| key == name)
}
