//! The order of the crate's modules. A folder imports only what `lib.rs` declares before the
//! folder. A file imports only what its `mod.rs` declares before the file. The table in
//! CONTRIBUTING.md lists the parts in that order.

use std::collections::BTreeMap;

use crate::support::house::House;
use crate::support::tree::{place, rust_files, text};

#[test]
fn a_file_imports_only_what_is_declared_before_it() {
    let (imports, violations) = House::read(&rust_files("src")).check();
    assert!(imports > 500, "{imports} imports were found");
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn a_folders_mod_file_holds_no_logic() {
    let logic = House::read(&rust_files("src")).logic_in_mod_files();
    assert!(logic.is_empty(), "{logic:#?}");
}

#[test]
fn the_table_of_parts_has_the_modules_in_the_order_of_their_declaration() {
    let page = text("CONTRIBUTING.md");
    let (_, rest) = page.split_once("| place | responsibility |\n").unwrap();
    let rows = rest
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let places = rows.filter_map(|row| row.split('|').nth(1));
    let listed: Vec<&str> = places
        .flat_map(str::split_whitespace)
        .map(|name| name.trim_matches('`').trim_end_matches('/'))
        .collect();
    let house = House::read(&rust_files("src"));
    let mut declared = house.declared(&[]).to_vec();
    // The folder `docs` contains no code.
    declared.retain(|module| module != "docs");
    assert_eq!(listed, declared);
}

#[test]
fn at_most_eight_files_are_beside_lib_rs() {
    let files = rust_files("src").into_keys();
    let beside: Vec<String> = files.filter(|file| !file.contains('/')).collect();
    assert!(beside.len() <= 9, "{beside:?}");
}

#[test]
fn each_folder_of_the_crate_has_its_tests_in_a_place_of_the_same_name() {
    let house = House::read(&rust_files("src"));
    let parts = house.declared(&[]).iter();
    let folders = parts.filter(|part| place("src").join(part).is_dir() && *part != "docs");
    for folder in folders {
        let tests = place("tests/it").join(folder);
        let has_tests = tests.is_dir() || tests.with_extension("rs").is_file();
        assert!(has_tests, "no {}", tests.display());
    }
}

/// Returns the violations in a crate with these files.
fn violations(files: &[(&str, &str)]) -> Vec<String> {
    let files = files
        .iter()
        .map(|(name, text)| (name.to_string(), text.to_string()));
    let files: BTreeMap<String, String> = files.collect();
    let (_, violations) = House::read(&files).check();
    let shown = violations
        .into_iter()
        .map(|it| format!("{} imports {}", it.file, it.import));
    shown.collect()
}

const LIB: (&str, &str) = ("lib.rs", "mod low; mod part;");
const PART: (&str, &str) = (
    "part/mod.rs",
    "//! use super::nothing;\npub(crate) mod first;\nmod second;",
);

#[test]
fn imports_of_what_is_declared_before_are_allowed() {
    let files = [
        LIB,
        ("low.rs", "use std::fmt;"),
        PART,
        (
            "part/first.rs",
            "use crate::low::Low; fn of() -> self::Own { super::super::low::make() }",
        ),
        (
            "part/second.rs",
            "use super::first::{self, First}; mod tests { use super::*; }",
        ),
    ];
    assert_eq!(violations(&files), [""; 0]);
}

#[test]
fn a_cycle_inside_a_folder_is_found_however_its_paths_are_written() {
    let ways = [
        "use super::second::Second;",
        "use super::{second::Second};",
        "use crate::part::second::{self};",
        "fn of() { super::second::make() }",
        "macro_rules! made { () => { $crate::part::second::make() } }",
        "fn log() { tracing::warn!(\"{}\", super::second::NAME) }",
        "mod tests { use super::super::second::Second; }",
    ];
    for way in ways {
        let files = [
            LIB,
            PART,
            ("part/first.rs", way),
            ("part/second.rs", "use super::first::First;"),
        ];
        let found = violations(&files);
        assert_eq!(found.len(), 1, "{way}: {found:?}");
        assert!(
            found[0].starts_with("part/first.rs imports part::second"),
            "{found:?}"
        );
    }
}

#[test]
fn an_import_of_a_higher_folder_is_found() {
    let files = [
        LIB,
        ("low.rs", "use crate::part::first::First;"),
        PART,
        ("part/first.rs", ""),
    ];
    assert_eq!(violations(&files), ["low.rs imports part::first::First"]);
}

#[test]
fn an_import_of_a_folders_own_re_export_is_found() {
    let part = (
        "part/mod.rs",
        "mod first; mod second; pub(crate) use self::second::Second;",
    );
    let first = ("part/first.rs", "use super::Second;");
    let files = [LIB, part, first, ("part/second.rs", "")];
    assert_eq!(violations(&files), ["part/first.rs imports part::Second"]);
}
