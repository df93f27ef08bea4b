//! Makes a server's text safe to print.

/// The maximum length, in bytes, of a server's text.
const SANITIZED_LIMIT: usize = 256;

/// Makes a server's text safe to print: one line of bounded length.
pub(crate) fn sanitize(text: &str) -> String {
    let mut text = sanitize_unbounded(text);
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=SANITIZED_LIMIT.min(text.len())).rev().find(fits);
    text.truncate(end.unwrap_or(0));
    text
}

/// Replaces each harmful character by a space. Doesn't shorten the text.
pub(crate) fn sanitize_unbounded(text: &str) -> String {
    // The capacity is sufficient. The text may be a secret. A `String` that grows leaves copies in
    // memory that aren't zeroized.
    let mut clean = String::with_capacity(text.len());
    let is_harmful = |c: char| c.is_control() || is_direction_override(c);
    clean.extend(text.chars().map(|c| if is_harmful(c) { ' ' } else { c }));
    clean
}

/// Characters that make a terminal or a log viewer reorder the text.
fn is_direction_override(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
