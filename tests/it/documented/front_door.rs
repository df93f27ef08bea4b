//! The crate root re-exports what most programs need, and each type has one name.

use std::collections::BTreeMap;

use crate::support::tree::{rust_files, text};

/// The items that most programs need.
const ROOT: &[&str] = &[
    "ApiKey",
    "Auth",
    "AuthLayer",
    "BoxError",
    "Error",
    "NotReplayed",
    "Origin",
    "Place",
    "Reason",
    "SecretSource",
    "Token",
    "TokenCache",
    "TokenSource",
];

/// Returns the names that a file re-exports to users.
fn reexported(text: &str) -> Vec<String> {
    let uses = text.split("pub use ").skip(1);
    let lists = uses.filter_map(|rest| rest.split_once(';'));
    lists
        .flat_map(|(path, _)| {
            let last = path.rsplit_once("::").map_or(path, |(_, last)| last);
            let names = last.trim_matches(['{', '}']).split(',');
            names.map(|name| name.trim().to_owned()).collect::<Vec<_>>()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn the_root_has_the_paved_path_and_nothing_else() {
    let mut names = reexported(&text("src/lib.rs"));
    names.sort();
    assert_eq!(names, ROOT);
}

#[test]
fn each_type_has_one_public_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, text) in rust_files("src") {
        for name in reexported(&text) {
            places.entry(name).or_default().push(file.clone());
        }
    }
    assert!(places.len() > 60, "{places:?}");
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "{places:?}");
}
