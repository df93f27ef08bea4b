//! Cleans a server's text, so that it is safe to print.

/// The longest text of a server that is kept.
const SANITIZED_LIMIT: usize = 256;

/// A server's text, safe to print: one line, bounded.
pub(crate) fn sanitize(text: &str) -> String {
    let mut text = sanitize_unbounded(text);
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=SANITIZED_LIMIT.min(text.len())).rev().find(fits);
    text.truncate(end.unwrap_or(0));
    text
}

/// The same without the bound: replaces each character that could do harm by a space.
pub(crate) fn sanitize_unbounded(text: &str) -> String {
    // It may be a secret, and what a growing text leaves behind isn't zeroized. The capacity is enough.
    let mut clean = String::with_capacity(text.len());
    let is_harmful = |c: char| c.is_control() || is_direction_override(c);
    clean.extend(text.chars().map(|c| if is_harmful(c) { ' ' } else { c }));
    clean
}

/// Characters that make a terminal or a log viewer show text in another order than it is in.
fn is_direction_override(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
