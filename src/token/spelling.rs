//! Finds a secret in a text, even if the text spells the secret in another way. A URL, a form,
//! JSON, HTML and `Debug` each escape some characters. Servers also nest one format in another.

use crate::sanitize::is_harmful;

/// The maximum length of a character reference of HTML, or of the code in `\u{…}`.
const LONGEST_CODE: usize = 10;

/// Returns where the secret ends if it starts at `at`. Each character of the secret may be spelled in
/// its own way, because each format escapes other characters.
pub(crate) fn end(text: &str, at: usize, secret: &str) -> Option<usize> {
    let mut chars = secret.chars();
    let first = chars.next()?;
    // A quick check, because the secret starts at few places.
    if !text
        .get(at..)?
        .starts_with([first, '%', '\\', '&', '+', ' '])
    {
        return None;
    }
    // The text may have several readings: `%2525` is a percent sign, or a percent sign and `25`.
    let mut ends: Vec<_> = ends_of(text, at, first).collect();
    for c in chars {
        if ends.is_empty() {
            return None;
        }
        ends = ends
            .into_iter()
            .flat_map(|at| ends_of(text, at, c))
            .collect();
        ends.sort_unstable();
        ends.dedup();
    }
    ends.into_iter().max()
}

/// Returns where the character ends, in each spelling that the text has at `at`.
fn ends_of(text: &str, at: usize, c: char) -> impl Iterator<Item = usize> {
    let rest = text.get(at..).unwrap_or_default();
    let lengths = [plain(rest, c), backslash(rest, c), reference(rest, c)];
    let lengths = lengths.into_iter().flatten().chain(percent(rest, c));
    // A form contains `+` in place of a space, and may then be encoded again.
    let plus = (c == ' ').then(|| percent(rest, '+'));
    lengths
        .chain(plus.into_iter().flatten())
        .map(move |length| at + length)
}

/// Reads the character itself. A sanitized text contains spaces in place of harmful characters, and a
/// form contains `+` in place of spaces.
fn plain(text: &str, c: char) -> Option<usize> {
    let first = text.chars().next()?;
    let is_it = first == c || first == ' ' && is_harmful(c) || first == '+' && c == ' ';
    is_it.then(|| first.len_utf8())
}

/// Reads a character that was percent-encoded once or several times (RFC 3986 §2.1): `%252F`.
fn percent(text: &str, c: char) -> impl Iterator<Item = usize> {
    let mut rest = text;
    let mut times = 0;
    let mut bytes = [0; 4];
    let mut bytes = c.encode_utf8(&mut bytes).bytes();
    let is_whole = bytes.all(|byte| {
        let Some(mut code) = rest.strip_prefix('%') else {
            return false;
        };
        times = 0;
        while let Some(inner) = code.strip_prefix("25") {
            (code, times) = (inner, times + 1);
        }
        rest = code;
        byte == b'%'
            || code.split_at_checked(2).is_some_and(|(digits, after)| {
                rest = after;
                is_code(digits, 16, byte.into())
            })
    });
    let lengths = match (is_whole, c) {
        (false, _) => 0..0,
        (true, '%') => 1..times + 1,
        (true, _) => 0..1,
    };
    let length = text.len() - rest.len();
    lengths.map(move |after| if c == '%' { 1 + 2 * after } else { length })
}

/// Reads an escape of JSON (RFC 8259 §7) or of Rust: `\"`, `\/`, `\n`, `\u002f`, `\u{2f}`.
fn backslash(text: &str, c: char) -> Option<usize> {
    let escape = text.strip_prefix('\\')?;
    let control = match c {
        '\u{8}' => 'b',
        '\u{c}' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        c => c,
    };
    let rest = match escape.strip_prefix('u') {
        Some(code) => match code.strip_prefix('{') {
            Some(code) => {
                let (code, rest) = split_code(code, '}')?;
                is_code(code, 16, c.into()).then_some(rest)?
            }
            None => {
                let mut units = [0; 2];
                let mut units = c.encode_utf16(&mut units).iter();
                let first = hex_unit(code, *units.next()?)?;
                units.try_fold(first, |rest, unit| {
                    hex_unit(rest.strip_prefix("\\u")?, *unit)
                })?
            }
        },
        // A backslash before a letter or a digit means another character.
        None if c.is_ascii_alphanumeric() => return None,
        None => escape.strip_prefix(control)?,
    };
    Some(text.len() - rest.len())
}

fn hex_unit(text: &str, unit: u16) -> Option<&str> {
    let (digits, rest) = text.split_at_checked(4)?;
    is_code(digits, 16, unit.into()).then_some(rest)
}

/// Reads a character reference of HTML: `&amp;`, `&#39;`, `&#x27;`.
fn reference(text: &str, c: char) -> Option<usize> {
    let (name, rest) = split_code(text.strip_prefix('&')?, ';')?;
    let is_it = match name.strip_prefix('#') {
        Some(code) => match code.strip_prefix(['x', 'X']) {
            Some(code) => is_code(code, 16, c.into()),
            None => is_code(code, 10, c.into()),
        },
        None => matches!(
            (name, c),
            ("amp", '&') | ("lt", '<') | ("gt", '>') | ("quot", '"') | ("apos", '\'')
        ),
    };
    is_it.then(|| text.len() - rest.len())
}

fn split_code(text: &str, end: char) -> Option<(&str, &str)> {
    let at = text.chars().take(LONGEST_CODE).position(|c| c == end)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn is_code(digits: &str, radix: u32, code: u32) -> bool {
    // The parser also accepts a sign.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_number && u32::from_str_radix(digits, radix) == Ok(code)
}

/// This is a unit test because it compares private functions with encoders.
#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a/b+c d=%25\"'&<\\\u{e9}\u{1f511}\n\u{200b}u";

    #[test]
    fn a_secret_is_found_in_every_encoding_and_in_mixed_ones() {
        let form: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
        let percent = |text: &str| {
            let all = percent_encoding::NON_ALPHANUMERIC;
            percent_encoding::utf8_percent_encode(text, all).to_string()
        };
        let few = percent_encoding::utf8_percent_encode(SECRET, percent_encoding::CONTROLS);
        let json = serde_json::to_string(SECRET).unwrap_or_default();
        let references: String = SECRET
            .chars()
            .map(|c| format!("&#{};", u32::from(c)))
            .collect();
        let units = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
        for spelled in [
            SECRET,
            &crate::sanitize::sanitize(SECRET),
            &form,
            &form.to_lowercase(),
            &percent(SECRET),
            &percent(&percent(SECRET)),
            &percent(&percent(&form)),
            &few.to_string(),
            json.trim_matches('"'),
            &json[1..json.len() - 1].replace('/', "\\/"),
            &units.collect::<String>(),
            &references,
            &SECRET.escape_debug().to_string(),
            &SECRET
                .replace('&', "&amp;")
                .replace('"', "&quot;")
                .replace('\'', "&#x27;"),
        ] {
            let text = format!("%{spelled}!");
            assert_eq!(end(&text, 1, SECRET), Some(text.len() - 1), "{spelled}");
        }
    }

    #[test]
    fn other_texts_are_not_the_secret() {
        for other in [
            "",
            "a",
            "a%2",
            "a%2525",
            "a%+2f",
            "a%25",
            "a&#;b",
            "a\\u00",
            "a\\u{+2f}b",
        ] {
            assert_eq!(end(other, 0, "a/b"), None, "{other}");
        }
        assert_eq!(end("\\n", 0, "n"), None);
        assert_eq!(end("a", 0, ""), None);
        assert_eq!(end("a", 7, "a"), None);
    }
}
