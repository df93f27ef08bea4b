//! Replaces numbers in JSON that are too large for an `f64`, such as `1e999`. serde_json rejects the
//! whole text because of such a number, even if nobody reads its field.

use std::iter;

/// Replaces each number that is too large. Every such number is at least as long as this text.
const LARGE: &[u8] = b"1e308";

/// Replaces each number that is too large with [`LARGE`] and spaces. The length doesn't change.
pub(crate) fn replace(json: &mut [u8]) {
    let mut at = 0;
    while let Some(&first) = json.get(at) {
        let rest = json.get_mut(at..).unwrap_or_default();
        at += match first {
            b'"' => string_length(rest),
            b'0'..=b'9' => {
                let length = number_length(rest);
                replace_number(rest.get_mut(..length).unwrap_or_default());
                length
            }
            _ => 1,
        };
    }
}

fn replace_number(number: &mut [u8]) {
    let value = str::from_utf8(number).ok().and_then(|it| it.parse().ok());
    if value.is_some_and(f64::is_infinite) {
        // JSON allows spaces after a number.
        let bytes = LARGE.iter().chain(iter::repeat(&b' '));
        number
            .iter_mut()
            .zip(bytes)
            .for_each(|(old, new)| *old = *new);
    }
}

/// Returns the length of the string at the start, with its quotes.
fn string_length(text: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = text.iter().skip(1).position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Returns the length of the number at the start, without its sign.
fn number_length(text: &[u8]) -> usize {
    let is_in_number = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    text.iter().take_while(is_in_number).count()
}
