//! Replaces what is invalid in the strings of JSON. Some servers send Latin-1 instead of UTF-8, and
//! some cut a string in the middle of a surrogate pair.

use zeroize::Zeroizing;

/// Takes the place of each invalid character.
pub(crate) const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Returns the JSON with a [`REPLACEMENT`] for each invalid byte sequence and each surrogate without
/// its other half.
pub(crate) fn replace(json: &[u8]) -> Zeroizing<Vec<u8>> {
    // The buffer never grows, because a buffer that grows frees memory without zeroizing it. A
    // replacement has 3 bytes.
    let mut text = Zeroizing::new(Vec::with_capacity(3 * json.len()));
    for chunk in json.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            text.extend_from_slice(REPLACEMENT.encode_utf8(&mut [0; 3]).as_bytes());
        }
    }
    let mut at = 0;
    while let Some(next) = text.get(at..).and_then(first_escape) {
        let start = at + next;
        at = start
            + match (escape(&text, start), escape(&text, start + 6)) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
                (Some(0xd800..=0xdfff), _) => {
                    text[start..start + 6].copy_from_slice(b"\\ufffd");
                    6
                }
                // Another escape begins with two characters.
                _ => 2,
            };
    }
    text
}

fn first_escape(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == b'\\')
}

/// Returns the number of an escape such as `\ud83d` that starts there.
fn escape(text: &[u8], start: usize) -> Option<u16> {
    let digits = text.get(start..start + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
