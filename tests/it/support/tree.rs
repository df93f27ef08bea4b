//! The files of this repository, for tests of their text, and the compiled examples.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns a path in this repository.
pub(crate) fn place(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().join(name)
}

/// Returns the text of a file in this repository.
pub(crate) fn text(name: &str) -> String {
    fs::read_to_string(place(name)).unwrap()
}

/// Returns the text of each Rust file below a folder, by its relative path: `oauth2/mod.rs`.
pub(crate) fn rust_files(folder: &str) -> BTreeMap<String, String> {
    let root = place(folder);
    let mut files = BTreeMap::new();
    let mut left = vec![root.clone()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let inside = fs::read_dir(path).unwrap();
            left.extend(inside.map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let from = path.strip_prefix(&root).unwrap();
            let parts = from.iter().map(|part| part.to_str().unwrap());
            let name = parts.collect::<Vec<_>>().join("/");
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    assert!(!files.is_empty(), "no Rust files in {folder}");
    files
}

/// Returns the lines that aren't comments.
pub(crate) fn code(text: &str) -> String {
    let code = text.lines().filter(|line| !line.trim().starts_with("//"));
    code.map(|line| format!("{line}\n")).collect()
}

/// Returns the path of a compiled example, which cargo puts next to the folder of the test binary.
#[cfg(feature = "reqwest")]
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let binary = profile.join("examples").join(file);
    assert!(
        binary.exists(),
        "no example {name}: run `cargo build --workspace --all-features --examples`"
    );
    binary
}
