//! Reads and changes a URI's query (RFC 3986 §3.4) as a list of pairs. Only the pair of the
//! credential changes.

use zeroize::Zeroizing;

/// Returns whether the query has a parameter with this name.
pub(crate) fn contains(query: Option<&str>, name: &str) -> bool {
    pairs(query).any(|pair| is_named(pair, name))
}

/// Removes all parameters with this name, and appends `pair`, which is a secret. The buffer never
/// grows, because growing would leave a copy of the secret in memory.
#[cfg(feature = "reqwest")]
pub(crate) fn replace(query: Option<&str>, name: &str, pair: &str) -> Zeroizing<String> {
    let mut replaced = Zeroizing::new(String::with_capacity(length(query, pair)));
    push_replaced(&mut replaced, query, name, pair);
    replaced
}

/// Does the same as `replace`, but puts the path in front of the query. The returned buffer
/// contains the whole request target.
pub(crate) fn target(path: &str, query: Option<&str>, name: &str, pair: &str) -> Zeroizing<String> {
    let length = path.len() + 1 + length(query, pair);
    let mut target = Zeroizing::new(String::with_capacity(length));
    target.push_str(path);
    target.push('?');
    push_replaced(&mut target, query, name, pair);
    target
}

/// Returns the maximum number of bytes that [`push_replaced`] pushes.
fn length(query: Option<&str>, pair: &str) -> usize {
    query.map_or(0, |query| query.len() + 1) + pair.len()
}

fn push_replaced(replaced: &mut String, query: Option<&str>, name: &str, pair: &str) {
    for other in pairs(query).filter(|other| !is_named(other, name)) {
        replaced.push_str(other);
        replaced.push('&');
    }
    replaced.push_str(pair);
}

pub(super) fn pairs(query: Option<&str>) -> impl Iterator<Item = &str> {
    let query = query.filter(|query| !query.is_empty());
    query.into_iter().flat_map(|query| query.split('&'))
}

pub(super) fn is_named(pair: &str, name: &str) -> bool {
    let Some(first) = pair.bytes().next() else {
        return false;
    };
    // A quick check: most names differ in the first character, unless that character is encoded.
    if !matches!(first, b'%' | b'+' | b'=') && name.bytes().next() != Some(first) {
        return false;
    }
    let key = pair.split_once('=').map_or(pair, |(key, _)| key);
    if !key.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return key == name;
    }
    let parsed = form_urlencoded::parse(key.as_bytes()).next();
    parsed.is_some_and(|(key, _)| key == name)
}

/// This is a unit test because it compares private functions with `form_urlencoded`.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_as_form_urlencoded_reads_it() {
        let names = [
            "key", "", "a b", "a+b", "a%20b", "\u{fc}", "\u{fffd}", "k", "=",
        ];
        let pairs = [
            "",
            "=",
            "key",
            "key=",
            "key=a=b",
            "=key",
            "k%65y=x",
            "%6Bey",
            "k%6=x",
            "key%",
            "a+b=1",
            "a%20b",
            "a%2Bb",
            "a%2520b=",
            "%C3%BC=1",
            "\u{fc}=1",
            "%FF",
            "%EF%BF%BD=2",
            "k=%65y",
            "%3D=1",
            "+",
            "key+=1",
            "KEY=1",
        ];
        for name in names {
            for pair in pairs {
                let parsed = form_urlencoded::parse(pair.as_bytes()).next();
                let expected = parsed.is_some_and(|(key, _)| key == name);
                assert_eq!(is_named(pair, name), expected, "{pair:?} {name:?}");
            }
        }
    }

    #[test]
    fn a_buffer_for_a_secret_does_not_grow() {
        for query in [
            None,
            Some(""),
            Some("q"),
            Some("key=1"),
            Some("a=1&key=2&&b=3&k%65y"),
        ] {
            let target = target("/x", query, "key", "key=secret");
            assert!(target.capacity() <= 3 + length(query, "key=secret"));
            assert!(target.ends_with("key=secret"));
        }
    }
}
