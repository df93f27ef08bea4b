//! `WWW-Authenticate`: one field line in each line of the input.
#![no_main]

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::{Corpus, fuzz_target};
use tower_auth::challenge::Challenge;

/// The parser reads this many bytes of a line.
const LINE_LIMIT: usize = 16 * 1024;

fuzz_target!(|data: &[u8]| -> Corpus {
    let lines: Vec<_> = data.split(|byte| *byte == b'\n').collect();
    let Some(challenges) = parse(&lines) else {
        return Corpus::Reject;
    };
    assert!(challenges.len() <= 32);
    let sent = String::from_utf8_lossy(data).len();
    let read: usize = challenges.iter().map(length).sum();
    assert!(read <= sent, "invented: {challenges:?}");

    let written: Vec<_> = challenges.iter().map(write).collect();
    if written.iter().all(|line| line.len() <= LINE_LIMIT) {
        let lines: Vec<_> = written.iter().map(String::as_bytes).collect();
        assert_eq!(parse(&lines).as_ref(), Some(&challenges), "{written:?}");
    }

    // An unclosed quote ends with its line, and the limit counts in each line.
    if !data.contains(&b'"') && data.len() <= LINE_LIMIT {
        assert_eq!(parse(&[&lines.join(&b","[..])]).as_ref(), Some(&challenges));
    }
    Corpus::Keep
});

/// Returns `None` if a line isn't legal in a header.
fn parse(lines: &[&[u8]]) -> Option<Vec<Challenge>> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line).ok()?);
    }
    Some(Challenge::parse(&headers))
}

fn length(challenge: &Challenge) -> usize {
    assert!(challenge.params().count() <= 64);
    assert!(!challenge.scheme().is_empty());
    let params = challenge.params().map(|(name, value)| {
        assert!(!name.is_empty());
        name.len() + value.len()
    });
    challenge.scheme().len() + challenge.token68().map_or(0, str::len) + params.sum::<usize>()
}

/// Writes a challenge by the grammar of RFC 9110 §11.6.1.
fn write(challenge: &Challenge) -> String {
    let quote = |(name, value): (&str, &str)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{name}=\"{value}\"")
    };
    let params: Vec<_> = challenge.params().map(quote).collect();
    let scheme = challenge.scheme();
    let token68 = challenge.token68().unwrap_or_default();
    match params.is_empty() {
        true => format!("{scheme} {token68}"),
        false if token68.is_empty() => format!("{scheme} {}", params.join(", ")),
        false => format!("{scheme} {token68}, {}", params.join(", ")),
    }
}
