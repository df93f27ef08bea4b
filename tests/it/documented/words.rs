//! Each concept has one name. No item of the crate has a name that the glossary in CONTRIBUTING.md
//! replaces.

use std::collections::BTreeSet;

use crate::support::house::names;
use crate::support::tree::{rust_files, text};

/// Returns the words in backticks in the glossary's right column.
fn replaced() -> BTreeSet<String> {
    let page = text("CONTRIBUTING.md");
    let (_, rest) = page.split_once("| say | not |\n").unwrap();
    let rows = rest
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(2));
    let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    words.map(str::to_owned).collect()
}

#[test]
fn no_item_is_named_by_a_word_that_the_glossary_replaces() {
    let replaced = replaced();
    assert!(replaced.len() > 50, "{replaced:?}");
    let mut count = 0;
    for (file, text) in rust_files("src") {
        let path = file.trim_end_matches(".rs").split('/').map(str::to_owned);
        let names: Vec<String> = names(&text).into_iter().chain(path).collect();
        count += names.len();
        let wrong: Vec<_> = names
            .iter()
            .filter(|name| replaced.contains(*name))
            .collect();
        assert!(wrong.is_empty(), "src/{file} has {wrong:?}");
    }
    assert!(count > 2_000, "{count} names were found");
}

/// Metaphors that the prose must not contain.
const METAPHORS: &[&str] = &[
    "pilot",
    "take off",
    "takes off",
    "took off",
    "in the air",
    "landed",
    "landing",
    "latch",
    "ledger",
    "setback",
    "hold-off",
    "running dry",
    "runs dry",
    "is had",
    "be had",
    "been had",
    "stamped",
    "gatekeeper",
];

#[test]
fn no_text_has_the_metaphors_that_the_glossary_replaces() {
    let mut found = Vec::new();
    let folders = [
        "src",
        "crates",
        "tests/it",
        "tests/model",
        "examples",
        "benches",
    ];
    let mut texts: Vec<(String, String)> = Vec::new();
    for folder in folders {
        texts.extend(
            rust_files(folder)
                .into_iter()
                .map(|(file, text)| (format!("{folder}/{file}"), text)),
        );
    }
    let pages = [
        "README.md",
        "CONTRIBUTING.md",
        "benches/README.md",
        "examples/README.md",
        "src/docs/how_it_works.md",
        "src/docs/choosing.md",
        "src/docs/migrating.md",
        "src/docs/composing.md",
        "src/docs/in_a_service.md",
        "src/docs/faults.md",
        "src/docs/security.md",
        "src/docs/fleet.md",
        "src/docs/tenants.md",
        "src/docs/testing.md",
        "src/docs/watching.md",
    ];
    texts.extend(pages.map(|page| (page.to_owned(), text(page))));
    for (file, text) in texts
        .iter()
        .filter(|(file, _)| !file.ends_with("documented/words.rs"))
    {
        for (at, line) in text.lines().enumerate() {
            // Skips the glossary's own rows.
            if line.starts_with('|') && file == "CONTRIBUTING.md" {
                continue;
            }
            let line = line.to_lowercase().replace('_', " ");
            let bad = METAPHORS.iter().filter(|word| line.contains(**word));
            found.extend(bad.map(|word| format!("{file}:{}: {word}", at + 1)));
        }
    }
    assert!(found.is_empty(), "{} places: {found:#?}", found.len());
}
