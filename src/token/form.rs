//! Reads forms (`application/x-www-form-urlencoded`). Any value may be a secret, and
//! `form_urlencoded` doesn't zeroize what it decodes.

use percent_encoding::percent_decode;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::sanitize;

/// Returns the names and the values, decoded as `form_urlencoded::parse` does.
pub(crate) fn parse(form: &[u8]) -> impl Iterator<Item = (String, SecretString)> {
    let pairs = form.split(|byte| *byte == b'&');
    pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=');
        let (name, value) = pair.split_at(end.unwrap_or(pair.len()));
        let value = value.strip_prefix(b"=").unwrap_or_default();
        let (name, value) = (decode(name), decode(value));
        (name.to_string(), SecretString::from(value.as_str()))
    })
}

/// Decodes a name or a value. No buffer grows, because a buffer that grows frees memory without
/// zeroizing it.
fn decode(encoded: &[u8]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(encoded.len()));
    for (at, part) in encoded.split(|byte| *byte == b'+').enumerate() {
        if at > 0 {
            bytes.push(b' ');
        }
        bytes.extend(percent_decode(part));
    }
    sanitize::decode(&bytes)
}

/// This is a unit test because it compares a private function with `form_urlencoded`.
#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_form_is_read_as_form_urlencoded_reads_it() {
        for form in [
            &b""[..],
            b"&",
            b"=",
            b"a",
            b"a=",
            b"=b",
            b"a=b=c&&d+e=%2B+%20&",
            b"%61=%6&b=%&c=%zz&d=%FF%c3&e=\xff+\xc3\xbc",
            b"a=%F0%9F%98%80&b=%F0%9F&c=%C3+%BC",
        ] {
            let expected: Vec<_> = form_urlencoded::parse(form).into_owned().collect();
            let read = parse(form).map(|(name, value)| (name, value.expose_secret().to_owned()));
            assert_eq!(read.collect::<Vec<_>>(), expected);
        }
    }
}
