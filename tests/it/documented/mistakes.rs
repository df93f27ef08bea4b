//! Errors that teach. `tests/mistakes` contains common mistakes, each with the compiler's message.
//! The docs of `Auth` say what to do about each message.
//!
//! Cargo compiles all mistakes at once, as one crate, which reuses what was compiled for this test.
//! The expected texts come from the attributes in `src`, with few of the compiler's own words. So
//! they are the same in all compiler versions.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::page::{rows, section};
use crate::support::tree::{place, rust_files, text};

macro_rules! features {
    ($($name:literal)*) => {
        [$(($name, cfg!(feature = $name))),*]
    };
}

/// Returns the arguments for the features with which this test was compiled.
fn features() -> Vec<String> {
    if cfg!(feature = "full") {
        return vec!["--features=full".to_owned()];
    }
    let all = features!(
        "reqwest" "hyper" "axum" "tonic" "metrics" "fleet" "file" "redis" "tenants" "cookies" "authorization-code"
        "redirect-listener" "jwt" "dpop" "reqwest-middleware" "tower-http" "gzip" "serde" "command" "gcp" "azure" "github"
        "kubernetes" "vault"
    );
    let enabled = all.into_iter().filter(|(_, is_enabled)| *is_enabled);
    let enabled = enabled.map(|(name, _)| name).collect::<Vec<_>>().join(",");
    vec![
        "--no-default-features".to_owned(),
        format!("--features={enabled}"),
    ]
}

/// Returns the compiler's errors, by file.
fn errors() -> BTreeMap<String, Vec<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    let arguments =
        "test --no-run --locked --message-format json -p tower-auth-tests --test mistakes";
    cargo.args(arguments.split(' ')).args(features());
    // Cargo sets these variables for this test. If it inherited them, build scripts would see a
    // change.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            cargo.env_remove(name);
        }
    }
    // `run.sh` lints what it compiles. With Clippy as the compiler, the messages contain longer paths.
    cargo.env_remove("RUSTC_WORKSPACE_WRAPPER");
    let output = cargo.current_dir(place("")).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let message = &line["message"];
        if message["level"] != "error" {
            continue;
        }
        let spans = message["spans"].as_array().unwrap();
        // The last error only states the number of errors, and has no span.
        if let Some(primary) = spans.iter().find(|span| span["is_primary"] == true) {
            let path = primary["file_name"].as_str().unwrap();
            let file = path.rsplit(['/', '\\']).next().unwrap().to_owned();
            let said = message["rendered"].as_str().unwrap().to_owned();
            found.entry(file).or_default().push(said);
        }
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!found.is_empty(), "no mistake was found: {said}");
    found
}

/// Returns the compiler's lines that open a mistake's file.
fn expected(text: &str) -> Vec<&str> {
    let docs = text.lines().map_while(|line| line.strip_prefix("//!"));
    let inside = docs.skip_while(|line| *line != " ```text").skip(1);
    inside
        .take_while(|line| *line != " ```")
        .map(str::trim)
        .collect()
}

#[test]
fn the_compiler_says_about_each_mistake_what_its_file_opens_with() {
    let mistakes = rust_files("tests/mistakes");
    let errors = errors();
    let mut problems = Vec::new();
    for (file, errors) in &errors {
        let expected = mistakes.get(file).map_or(Vec::new(), |text| expected(text));
        for line in &expected {
            if !errors.iter().any(|error| error.contains(line)) {
                problems.push(format!("{file}: not said: {line}\n{}", errors.concat()));
            }
        }
        for error in errors {
            if !expected.iter().any(|line| error.contains(line)) {
                problems.push(format!("{file}: not expected: {error}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let modules = text("tests/mistakes/main.rs");
    let modules: Vec<&str> = modules.lines().collect();
    for file in mistakes.keys().filter(|file| *file != "main.rs") {
        let line = format!("mod {};", file.trim_end_matches(".rs"));
        let at = modules.iter().position(|module| *module == line);
        let at = at.unwrap_or_else(|| panic!("{file} is not declared"));
        // Some mistakes need a feature. Others need a feature to be missing.
        let is_conditional = modules[at - 1].starts_with("#[cfg(");
        assert!(
            is_conditional || errors.contains_key(file),
            "{file} compiles"
        );
    }
    assert!(errors.len() >= 14, "{} mistakes", errors.len());
}

#[test]
fn the_docs_of_auth_say_what_to_do_about_each_mistake() {
    let mistakes = rust_files("tests/mistakes");
    let texts: Vec<String> = mistakes
        .values()
        .map(|text| expected(text).join("\n"))
        .collect();
    let source = text("src/layer/service.rs");
    let docs: String = source
        .lines()
        .filter_map(|line| line.strip_prefix("///"))
        .map(|line| format!("{}\n", line.trim()))
        .collect();
    let rows = rows(section(&docs, "# When it doesn't compile"));
    assert!(rows.len() > 10, "{rows:?}");
    let says = |row: &str, text: &str| {
        row.split('…')
            .all(|part| text.contains(part.trim_matches('`')))
    };
    for row in &rows {
        assert!(
            texts.iter().any(|text| says(row[0], text)),
            "no mistake has `{}`",
            row[0]
        );
    }
}

/// Returns the version of a dependency in the manifest, such as `1.7`.
fn version<'a>(manifest: &'a str, name: &str) -> Option<&'a str> {
    let start = format!("{name} = ");
    manifest.lines().find_map(|line| {
        let line = line.strip_prefix(&start)?;
        let line = line.strip_prefix("{ version = ").unwrap_or(line);
        line.strip_prefix('"')?.split('"').next()
    })
}

#[test]
fn versions_in_the_errors_are_those_of_the_manifest() {
    let manifest = text("Cargo.toml");
    let mut count = 0;
    for (file, text) in rust_files("src") {
        let notes = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("note = "));
        for note in notes {
            let words: Vec<&str> = note.split(' ').collect();
            for pair in words
                .windows(2)
                .filter(|pair| pair[1].starts_with(|first: char| first.is_ascii_digit()))
            {
                let said = pair[1].trim_end_matches(['"', ',']);
                let is = version(&manifest, pair[0])
                    .unwrap_or_else(|| panic!("{file}: no crate {}", pair[0]));
                assert!(
                    format!("{is}.").starts_with(&format!("{said}.")),
                    "{file}: {} is {is}: {note}",
                    pair[0]
                );
                count += 1;
            }
        }
    }
    assert!(count >= 8, "{count} versions");
}
