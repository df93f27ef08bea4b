//! Messages of failed assertions.

use std::fmt::Write as _;

use similar::TextDiff;

/// Panics if the lines differ. The message shows both lists as one: `-` marks a line that was
/// expected and is missing, `+` marks a line that was not expected.
#[track_caller]
pub(crate) fn assert_lines<E, R>(what: &str, expected: E, received: R)
where
    E: IntoIterator<Item: Into<String>>,
    R: IntoIterator<Item: ToString>,
{
    let expected: Vec<String> = expected.into_iter().map(Into::into).collect();
    let received: Vec<String> = received.into_iter().map(|line| line.to_string()).collect();
    if expected == received {
        return;
    }
    let mut message = format!("{what} (- expected, + received):");
    let (old, new): (Vec<_>, Vec<_>) = (
        expected.iter().map(String::as_str).collect(),
        received.iter().map(String::as_str).collect(),
    );
    for change in TextDiff::from_slices(&old, &new).iter_all_changes() {
        // Writing to a string can't fail.
        let _ = write!(message, "\n{} {}", change.tag(), change.value());
    }
    panic!("{message}");
}
