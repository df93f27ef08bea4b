//! Finds a refresh token in a body that can't be parsed. The server may already have revoked the
//! previous refresh token.

use secrecy::SecretString;
use serde::Deserialize;

use super::body_value::{parse_form, without_marks};
use super::json_pointer;

/// The maximum number of members to compare. A hostile body may have thousands.
const MAX_CANDIDATES: usize = 32;

/// Finds the refresh token that a valid body would contain at `pointer`.
///
/// The body may be JSON with an error, or a form: some servers send a form instead of JSON.
pub(crate) fn find(body: &[u8], pointer: &str, is_complete: bool) -> Option<SecretString> {
    let names: Vec<String> = json_pointer::names(pointer).collect();
    let (name, outer) = names.split_last()?;
    let found = find_in_json(body, name, outer);
    found.or_else(|| match outer {
        [] => find_in_form(body, name, is_complete),
        _ => None,
    })
}

/// Prefers a member at the pointer's place, because members of the same name elsewhere may be other
/// tokens. A pointer with only one name also accepts a member at any other place, because the
/// braces may be wrong.
fn find_in_json(body: &[u8], name: &str, outer: &[String]) -> Option<SecretString> {
    let name = in_quotes(name)?;
    let ends = (name.len()..body.len()).rev();
    let values = ends.filter_map(|end| {
        let (before, after) = body.split_at_checked(end)?;
        // This comparison comes first, because the search reads the white space at each name only
        // once.
        let start = before.strip_suffix(name.as_slice())?;
        let value = after.trim_ascii_start().strip_prefix(b":")?;
        Some((start, text(value)?))
    });
    let values: Vec<(&[u8], SecretString)> = values.take(MAX_CANDIDATES).collect();
    let in_place = values.iter().find(|(start, _)| is_inside(outer, start));
    let anywhere = values.first().filter(|_| outer.is_empty());
    in_place.or(anywhere).map(|(_, value)| value.clone())
}

fn text(value: &[u8]) -> Option<SecretString> {
    let mut json = serde_json::Deserializer::from_slice(value);
    // Fails without the closing quote, so the string is complete.
    let text = String::deserialize(&mut json).ok()?;
    (!text.is_empty()).then(|| SecretString::from(text))
}

fn in_quotes(name: &str) -> Option<Vec<u8>> {
    serde_json::to_vec(name).ok()
}

/// Returns whether the text ends inside the object that these names lead to, judged by the braces.
fn is_inside(names: &[String], text: &[u8]) -> bool {
    let Some(start) = enclosing_brace(text) else {
        return false;
    };
    let before = text[..start].trim_ascii_end();
    let Some((name, outer)) = names.split_last() else {
        return enclosing_brace(before).is_none();
    };
    let before = before.strip_suffix(b":").map(<[u8]>::trim_ascii_end);
    let before = before.and_then(|before| before.strip_suffix(in_quotes(name)?.as_slice()));
    before.is_some_and(|before| is_inside(outer, before))
}

/// Returns the position of the last brace that isn't closed.
fn enclosing_brace(text: &[u8]) -> Option<usize> {
    let mut closed = 0_usize;
    text.iter().rposition(|b| match b {
        b'{' if closed == 0 => true,
        b'{' => {
            closed -= 1;
            false
        }
        b'}' => {
            closed += 1;
            false
        }
        _ => false,
    })
}

fn find_in_form(body: &[u8], name: &str, is_complete: bool) -> Option<SecretString> {
    // A form begins with a name. Text with a link that has a query is no form.
    let first = without_marks(body).split(|&b| b == b'=').next()?;
    let is_in_name = |b: &u8| b.is_ascii_graphic() && !b":/?".contains(b);
    if !first.iter().all(is_in_name) {
        return None;
    }
    let form = parse_form(body, is_complete).value;
    let values = form.at(&super::body_value::inside("", name));
    let mut texts = values.into_iter().rev().filter_map(|value| value.text());
    let text = texts.find(|text| !text.is_empty())?;
    Some(SecretString::from(text))
}
