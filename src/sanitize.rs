//! Text that is safe to print, whatever a server or another program put into it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::iter;
use std::str::Utf8Chunk;

use zeroize::Zeroizing;

/// A server's text that is safe to print: one line of at most 256 bytes, without invisible
/// characters.
///
/// Functions that print a server's text take this type. Only the constructor makes a value, so the
/// compiler finds each text that isn't sanitized.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServerText(String);

impl ServerText {
    /// The maximum length in bytes.
    pub(crate) const LONGEST: usize = 256;

    pub(crate) fn new(text: &str) -> Self {
        Self(cut(sanitize(text), Self::LONGEST))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The message of an error. A message that is made at run time may contain a server's text, so the
/// whole message is sanitized.
#[derive(Clone)]
pub(crate) struct Message(Cow<'static, str>);

impl Message {
    /// The maximum length in bytes, which is enough for several server texts.
    const LONGEST: usize = 2048;

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Message {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self(Cow::Owned(cut(sanitize(&text), Self::LONGEST)))
    }
}

impl From<Cow<'static, str>> for Message {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

/// The text of an error and of its sources, without the errors themselves.
#[derive(Debug)]
pub(crate) struct ErrorText {
    text: ServerText,
    source: Option<Box<Self>>,
}

impl ErrorText {
    /// Copies the text of each error in the chain. `read` makes each text safe to print.
    pub(crate) fn of(
        error: &(dyn StdError + 'static),
        read: impl Fn(&str) -> ServerText,
    ) -> Box<Self> {
        let mut texts: Vec<_> = chain(error).map(|error| read(&error.to_string())).collect();
        let text = texts.remove(0);
        let source = texts
            .into_iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Self { text, source })));
        Box::new(Self { text, source })
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl StdError for ErrorText {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_deref()?)
    }
}

/// Returns the errors of a chain of sources. The length is limited, because the chain of a foreign
/// type may have no end.
pub(crate) fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| error.source()).take(16)
}

/// Returns the error unchanged if all text in its chain is safe to print. Otherwise, returns only
/// the sanitized text. Errors of clients and stores may contain what a server sent.
pub(crate) fn printable(error: Box<dyn StdError + Send + Sync>) -> Box<dyn StdError + Send + Sync> {
    let is_safe = |text: &str| text.len() <= Message::LONGEST && !text.contains(is_harmful);
    let are_safe = chain(&*error).all(|error| is_safe(&error.to_string()));
    match are_safe {
        true => error,
        false => ErrorText::of(&*error, ServerText::new),
    }
}

/// Replaces each harmful character by a space. Doesn't shorten the text.
pub(crate) fn sanitize(text: &str) -> String {
    // The capacity is sufficient. The text may be a secret. A `String` that grows leaves copies in
    // memory that aren't zeroized.
    let mut clean = String::with_capacity(text.len());
    clean.extend(text.chars().map(|c| if is_harmful(c) { ' ' } else { c }));
    clean
}

/// Decodes UTF-8, and replaces invalid bytes. Unlike `String::from_utf8_lossy`, leaves no copy of a
/// secret in memory.
pub(crate) fn decode(bytes: &[u8]) -> Zeroizing<String> {
    let chunks = || bytes.utf8_chunks();
    // The character that replaces an invalid byte has 3 bytes.
    let length = |chunk: Utf8Chunk<'_>| chunk.valid().len() + 3;
    let mut text = Zeroizing::new(String::with_capacity(chunks().map(length).sum()));
    for chunk in chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

/// Cuts the text to at most `longest` bytes.
pub(crate) fn cut(mut text: String, longest: usize) -> String {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=longest.min(text.len())).rev().find(fits);
    text.truncate(end.unwrap_or(0));
    text
}

/// Returns whether the character is invisible, or makes a terminal or a log viewer do something:
/// clear the screen, or reorder the text.
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Separators of lines and paragraphs, directions, annotations, and embedded objects.
            '\u{2028}'..='\u{202e}'
                | '\u{fff9}'..='\u{fffc}'
                // Characters that arrange hieroglyphs.
                | '\u{13430}'..='\u{1343f}'
                // Noncharacters of the Basic Multilingual Plane; fonts have no glyph for them.
                | '\u{fdd0}'..='\u{fdef}'
                | '\u{fffe}'..='\u{ffff}'
                // `Default_Ignorable_Code_Point` of the Unicode standard: characters without a
                // glyph, such as zero-width characters, directions, fillers and tags.
                | '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fff8}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
                // The blank pattern of Braille.
                | '\u{2800}'
                // Private use, whose glyphs depend on the font.
                | '\u{e000}'..='\u{f8ff}'
                | '\u{f0000}'..='\u{10ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_put_together_is_sanitized_and_cut_between_characters() {
        let message = Message::from(format!("a\u{202e}\u{9b}\nb{}", "\u{e9}".repeat(2_000)));
        assert!(message.as_str().starts_with("a   b\u{e9}\u{e9}"));
        assert_eq!(message.as_str().len(), Message::LONGEST - 1);
    }

    #[test]
    fn only_an_error_that_is_not_safe_to_print_is_replaced_by_its_text() {
        let plain = printable(Box::new(fmt::Error));
        assert!(plain.is::<fmt::Error>());
        let replaced = printable("the key \u{200b}\u{1b}[2J".into());
        assert_eq!(replaced.to_string(), "the key   [2J");
        assert!(replaced.is::<ErrorText>());
    }
}
