//! The README and the crate documentation agree with each other and with the package.

use std::collections::BTreeMap;

use super::page::{Words, anchors, code, links, names_in, opening, quoted, rows, section};
use crate::support::tree::{place, text};

/// The part of a `Cargo.toml` that these tests read.
struct Manifest {
    text: String,
}

impl Manifest {
    fn read() -> Self {
        Self {
            text: text("Cargo.toml"),
        }
    }

    /// Returns each feature and what it enables.
    fn features(&self) -> BTreeMap<String, Words> {
        let (_, rest) = self.text.split_once("\n[features]\n").unwrap();
        let features = rest.split("\n[").next().unwrap();
        let features = features.lines().filter_map(|line| line.split('#').next());
        let features = features.collect::<Vec<_>>().join(" ");
        let features = features.split(']').filter_map(|feature| {
            let (name, list) = feature.split_once('=')?;
            let list = list.split('"').skip(1).step_by(2).map(str::to_owned);
            Some((name.trim().to_owned(), list.collect()))
        });
        features.collect()
    }

    /// Returns these features and all that they enable.
    fn all_of(&self, features: &Words) -> Words {
        let known = self.features();
        let mut all = Words::new();
        let mut left: Vec<String> = features.iter().cloned().collect();
        while let Some(feature) = left.pop() {
            let more = known.get(&feature).cloned().unwrap_or_default();
            left.extend(more.into_iter().filter(|more| known.contains_key(more)));
            all.insert(feature);
        }
        all
    }
}

/// The package of the examples that need more crates, and its folder.
const EXTRA: (&str, &str) = ("tower-auth-examples", "examples/extra");

/// Returns each example of the package in this folder, and the features that it requires.
fn examples_of(folder: &str) -> BTreeMap<String, Words> {
    let manifest = text(&format!("{folder}/Cargo.toml"));
    let (_, list) = manifest.split_once("\nexample = [\n").unwrap();
    let list = list.lines().take_while(|line| *line != "]");
    let examples = list.map(|example| {
        let (name, wanted) = example
            .split_once("required-features")
            .unwrap_or((example, ""));
        let wanted = wanted.split('"').skip(1).step_by(2).map(str::to_owned);
        let name = name.split("name = \"").nth(1).unwrap();
        (name.split('"').next().unwrap().to_owned(), wanted.collect())
    });
    examples.collect()
}

/// Returns all examples of both packages.
pub(super) fn examples() -> Words {
    let examples = [".", EXTRA.1].into_iter().flat_map(examples_of);
    examples.map(|(name, _)| name).collect()
}

fn readme() -> String {
    text("README.md")
}

fn crate_docs() -> String {
    opening(&text("src/lib.rs"))
}

/// Returns each feature in the crate documentation, and its description.
fn features_told() -> Vec<(String, String)> {
    let docs = crate_docs();
    let rows = rows(section(&docs, "# Features")).into_iter();
    rows.map(|row| (quoted(row[0]).swap_remove(0), row.join(" ")))
        .collect()
}

#[test]
fn the_features_in_the_documentation_are_those_of_the_package() {
    let mut known = Manifest::read().features();
    let default = known.remove("default").unwrap();
    let told = features_told();
    let names: Words = told.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, known.keys().cloned().collect::<Words>());
    for (name, says) in &told {
        assert_eq!(says.contains("(default)"), default.contains(name), "{name}");
        let mut all: Words = known.keys().cloned().collect();
        if name == "full" {
            all.remove("full");
            assert_eq!(known[name], all, "`full` isn't all of them");
            continue;
        }
        let implied: Words = known[name].intersection(&all).cloned().collect();
        let implied_by_docs: Words = says
            .split("(so ")
            .skip(1)
            .map(|rest| quoted(rest).swap_remove(0))
            .collect();
        assert_eq!(implied_by_docs, implied, "what `{name}` brings along");
    }
}

#[test]
fn the_readme_names_each_feature_and_no_other() {
    let known = Manifest::read().features();
    let readme = readme();
    // The README names features as "feature `x`", "features `x`, `y`", and in the second column of
    // the table of clients.
    let mut named = Words::new();
    for after in readme.split("feature").skip(1) {
        let after = after.strip_prefix('s').unwrap_or(after);
        let Some(list) = after.strip_prefix(" `") else {
            continue;
        };
        let mut list = list.split('`').peekable();
        while let (Some(name), Some(between)) = (list.next(), list.next()) {
            named.insert(name.to_owned());
            if between.trim() != "," {
                break;
            }
        }
    }
    let clients = rows(section(&readme, "## In front of the client you have"));
    let clients = clients.iter().filter(|row| row.len() == 3);
    named.extend(clients.flat_map(|row| quoted(row[1])));
    named.extend(
        quoted(&readme)
            .into_iter()
            .filter(|word| known.contains_key(word)),
    );
    let mut known: Words = known.into_keys().collect();
    known.remove("default");
    assert_eq!(named, known);
}

#[test]
fn the_first_lines_of_code_are_the_same_in_both() {
    let readme = readme();
    let in_readme = code(&readme, "rust")[0];
    let docs = crate_docs();
    let shown = code(&docs, "no_run")[0].lines();
    let shown = shown.filter(|line| *line != "#" && !line.starts_with("# "));
    let shown: String = shown.map(|line| format!("{line}\n")).collect();
    assert_eq!(shown, in_readme);
}

#[test]
fn the_readme_has_each_example_and_no_other() {
    let readme = readme();
    let clients = section(&readme, "## In front of the client you have");
    let tables = rows(clients);
    let told = tables.iter().filter(|row| row.len() == 2);
    let told: Words = told.flat_map(|row| quoted(row[0])).collect();
    let mut there = Words::new();
    for folder in ["examples", EXTRA.1] {
        there.extend(names_in(folder, ".rs"));
        let folders = names_in(folder, "").into_iter();
        there.extend(folders.filter(|name| place(&format!("{folder}/{name}/main.rs")).is_file()));
    }
    assert_eq!(told, there);
    assert_eq!(examples(), there);
}

#[test]
fn the_minimum_rust_version_is_the_packages_wherever_it_stands() {
    let readme = readme();
    let told = section(&readme, "## Minimum Rust version").trim();
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(
        told.starts_with(&format!("{version}. ")),
        "{told}, not {version}"
    );
    let docs = crate_docs();
    let (_, told) = docs.split_once("The minimum Rust version is ").unwrap();
    assert!(
        told.starts_with(&format!("{version}.\n")),
        "{told}, not {version}"
    );
}

/// Returns the words of each `cargo` or `bash` command on a page.
fn commands(page: &str) -> Vec<Vec<&str>> {
    let in_blocks = code(page, "sh").into_iter().flat_map(str::lines);
    let in_lines = page
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let commands = in_blocks.chain(in_lines);
    let commands = commands.map(|command| command.split(" #").next().unwrap_or(command));
    // A command may contain another: `export TOKEN=$(…)`, `… -- cargo run …`.
    let inner = |command: &'static str, line: &str| -> Vec<usize> {
        line.match_indices(command).map(|(at, _)| at).collect()
    };
    commands
        .flat_map(|line| {
            let mut starts = inner("cargo ", line);
            starts.extend(inner("bash ", line));
            starts.sort_unstable();
            let ends = starts.iter().skip(1).copied().chain([line.len()]);
            let commands: Vec<_> = starts.iter().copied().zip(ends).collect();
            commands
                .into_iter()
                .map(move |(from, to)| line[from..to].split([' ', ')']).collect())
        })
        .collect()
}

fn after<'a>(command: &[&'a str], option: &str) -> Option<&'a str> {
    let at = command.iter().position(|word| *word == option)?;
    command.get(at + 1).copied()
}

#[test]
fn each_command_that_is_shown_runs_something_that_is_there() {
    let manifest = Manifest::read();
    let known = manifest.features();
    let mut seen = 0;
    for page in ["README.md", "CONTRIBUTING.md"] {
        let page = text(page);
        for command in commands(&page) {
            let shown = command.join(" ");
            if command[0] == "bash" {
                assert!(place(command[1]).is_file(), "{shown}");
            }
            let mut features: Words = after(&command, "--features")
                .into_iter()
                .flat_map(|features| features.split(','))
                .map(str::to_owned)
                .collect();
            for feature in &features {
                assert!(known.contains_key(feature), "{shown}");
            }
            features.insert(String::from("default"));
            if command.contains(&"--all-features") {
                features.insert(String::from("full"));
            }
            if let Some(example) = after(&command, "--example") {
                let folder = match after(&command, "-p") {
                    None => ".",
                    Some(package) => {
                        assert_eq!(package, EXTRA.0, "{shown}");
                        EXTRA.1
                    }
                };
                let examples = examples_of(folder);
                let wanted = examples.get(example);
                let wanted = wanted.unwrap_or_else(|| panic!("no such example: {shown}"));
                let features = manifest.all_of(&features);
                assert!(wanted.is_subset(&features), "{shown}: it wants {wanted:?}");
            }
            if let Some(bench) = after(&command, "--bench") {
                assert_eq!(after(&command, "-p"), Some("tower-auth-benches"), "{shown}");
                assert!(place(&format!("benches/{bench}.rs")).is_file(), "{shown}");
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

const SITE: &str = "https://github.com/tower-auth/tower-auth";
const PAGES: &str = "https://docs.rs/tower-auth/latest/tower_auth/";

#[test]
fn each_link_to_a_file_a_page_or_a_section_leads_there() {
    let readme = readme();
    let pages = names_in("src/docs", ".md");
    let mut seen = 0;
    for page in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let here = text(page);
        for link in links(&here) {
            if let Some(name) = link.strip_prefix(PAGES) {
                let name = name.strip_prefix("docs/").unwrap_or(name);
                assert!(pages.contains(name.trim_end_matches('/')), "{page}: {link}");
            } else if let Some(anchor) = link.strip_prefix('#') {
                assert!(anchors(&here).contains(anchor), "{page}: {link}");
            } else if !link.contains("://") {
                let path = link.split('#').next().unwrap();
                assert!(place(path).exists(), "{page}: {link}");
            }
            seen += 1;
        }
    }
    let docs = [text("src/lib.rs")].into_iter();
    let docs = docs.chain(
        pages
            .iter()
            .map(|name| text(&format!("src/docs/{name}.md"))),
    );
    for page in docs {
        for link in links(&page) {
            if let Some(anchor) = link.strip_prefix(&format!("{SITE}#")) {
                assert!(anchors(&readme).contains(anchor), "{link}");
            }
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn what_the_readme_names_of_the_crates_modules_is_there() {
    let readme = readme();
    let mut seen = 0;
    for module in ["oauth2", "login"] {
        let exported = text(&format!("src/{module}/mod.rs"));
        let prefix = format!("{module}::");
        for word in quoted(&readme) {
            let Some(name) = word.strip_prefix(&prefix) else {
                continue;
            };
            let name = name.split([':', '(']).next().unwrap();
            let is_exported = exported
                .lines()
                .filter(|line| line.starts_with("pub use "))
                .any(|line| {
                    line.split(['{', '}', ',', ';', ':', ' '])
                        .any(|part| part == name)
                });
            assert!(is_exported, "{word}");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}
