//! What an error shows of a failed program's error output.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::process::Output;
use crate::sanitize::ServerText;
use crate::token::redact::Redactor;

/// The minimum number of characters of a hidden part of a secret. Shorter parts occur in other text by
/// chance.
const SHORTEST_PART: usize = 8;

/// The same for a part of the standard output. This output may be ordinary text, whose words may
/// have more than 8 characters.
const SHORTEST_PART_OF_OUTPUT: usize = 16;

/// Makes the redactor hide a secret of the program's environment, also in Base64. For example, a
/// program may print a header of Basic authentication.
pub(crate) fn hide(redactor: &mut Redactor, secret: &str) {
    redactor.hide(secret);
    if secret.len() < SHORTEST_PART {
        return;
    }
    // Base64 encodes three bytes as four characters. So the characters also depend on the number of
    // bytes before the secret.
    for before in 0..3 {
        let mut bytes = Zeroizing::new(Vec::with_capacity(before + secret.len()));
        bytes.resize(before, 0);
        bytes.extend_from_slice(secret.as_bytes());
        redactor.hide(&Zeroizing::new(STANDARD_NO_PAD.encode(&*bytes)));
        redactor.hide(&Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes)));
    }
}

/// Returns the end of the error output, without secrets of the environment and without text of the
/// standard output. The standard output may contain a token, even if the program failed.
pub(crate) fn shown(output: &Output, secrets: &Redactor) -> ServerText {
    let printed = Zeroizing::new(secrets.redact_whole(&text_of(&output.stderr)));
    let printed = secrets.redact_parts(end_of(printed.trim()), SHORTEST_PART);
    let mut tokens = Redactor::default();
    tokens.hide(text_of(&output.stdout).trim());
    ServerText::new(&tokens.redact_parts(&printed, SHORTEST_PART_OF_OUTPUT))
}

/// Returns the bytes as text, with a space for each invalid sequence. The text may be a secret, so
/// its buffer never grows.
fn text_of(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len()));
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(' ');
        }
    }
    text
}

/// Returns the end of a text. [`ServerText`] alone would keep the start.
fn end_of(text: &str) -> &str {
    let start = text.len().saturating_sub(ServerText::LONGEST);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at));
    text.get(start.unwrap_or_default()..).unwrap_or_default()
}
