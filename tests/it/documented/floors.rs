//! The crate is built in floors: a file imports only what `lib.rs` declares above it, and the table in
//! CONTRIBUTING.md lists the floors in that order.

use crate::support::tree::{code, rust_files, text};

/// The modules, from the lowest up.
fn declared() -> Vec<String> {
    let lib = text("src/lib.rs");
    let lines = lib.lines().map(|line| line.trim_start_matches("pub "));
    let modules = lines.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    modules.map(str::to_owned).collect()
}

/// What stands after each `crate::`.
fn imported(file: &str) -> Vec<String> {
    let code = code(file);
    let places = code.split("crate::").skip(1);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = places.map(|rest| rest.chars().take_while(|c| is_word(*c)).collect());
    words.collect()
}

#[test]
fn a_file_imports_only_what_is_declared_before_it() {
    let declared = declared();
    let floor = |module: &str| declared.iter().position(|other| other == module);
    let mut imports = 0;
    let mut upward = Vec::new();
    for (file, text) in rust_files("src") {
        let module = file.trim_end_matches(".rs").split('/').next().unwrap();
        if module == "lib" {
            continue;
        }
        let own = floor(module).unwrap_or_else(|| panic!("lib.rs declares no {module}"));
        for import in imported(&text) {
            imports += 1;
            // What isn't a module is a name that only `lib.rs` has: that is the highest floor.
            if floor(&import).is_none_or(|floor| floor > own) {
                upward.push(format!("{file} imports {import:?}"));
            }
        }
    }
    assert!(imports > 200, "{imports} imports were found");
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn the_table_of_floors_has_the_modules_in_the_order_of_their_declaration() {
    let page = text("CONTRIBUTING.md");
    let (_, rest) = page.split_once("| floor | files | answer |\n").unwrap();
    let rows = rest
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let files = rows.filter_map(|row| row.split('|').nth(2));
    let listed: Vec<&str> = files
        .flat_map(str::split_whitespace)
        .map(|name| name.trim_matches('`').trim_end_matches('/'))
        .collect();
    let mut declared = declared();
    // It holds no code.
    declared.retain(|module| module != "docs");
    assert_eq!(listed, declared);
}
