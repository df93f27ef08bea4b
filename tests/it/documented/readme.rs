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

    /// Returns these features and all features that they enable.
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

/// The package with the examples that need more crates, and the package's folder.
const EXTRA: (&str, &str) = ("tower-auth-examples", "examples/extra");

/// Returns the examples of the package in this folder, each with its required features.
fn examples_of(folder: &str) -> BTreeMap<String, Words> {
    let manifest = text(&format!("{folder}/Cargo.toml"));
    let (_, list) = manifest.split_once("\nexample = [\n").unwrap();
    let list = list.lines().take_while(|line| *line != "]");
    let list = list.flat_map(|line| line.split("{ ").skip(1));
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

/// Returns the features in the crate documentation, each with its description.
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
            .filter_map(|rest| rest.split_once(" too"))
            .flat_map(|(implied, _)| quoted(implied))
            .collect();
        assert_eq!(implied_by_docs, implied, "what `{name}` brings along");
    }
}

#[test]
fn the_readme_names_each_feature_and_no_other() {
    let known = Manifest::read().features();
    let readme = readme();
    let mut named = Words::new();
    for row in rows(section(&readme, "## Clients")) {
        named.extend(quoted(row[2]));
    }
    for row in rows(section(&readme, "## Features")) {
        named.extend(quoted(row[0]));
    }
    let mut known: Words = known.into_keys().collect();
    known.remove("default");
    assert_eq!(named, known);
}

#[test]
fn the_readme_is_short_and_shows_no_hidden_lines() {
    let readme = readme();
    let (lines, words) = (readme.lines().count(), readme.split_whitespace().count());
    assert!(lines <= 130, "{lines} lines");
    assert!(words <= 950, "{words} words");
    for block in code(&readme, "rust") {
        let mut lines = block.lines();
        assert!(lines.all(|line| line != "#" && !line.starts_with("# ")));
    }
}

#[test]
fn the_versions_that_the_readme_supports_are_those_of_the_package() {
    let readme = readme();
    let clients = section(&readme, "## Clients");
    let manifest = text("Cargo.toml");
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let required = |name: &str| {
        let start = format!("{name} = ");
        let line = dependencies.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no dependency on {name}"));
        let version = line.split_once("version = ").map_or(line, |(_, rest)| rest);
        version.split('"').nth(1).unwrap().to_owned()
    };
    let mut told = String::new();
    for row in rows(clients) {
        let row = row[1].replace(" (not 0.12)", "");
        told += &format!(", {}", row.replace(['(', ')'], ", "));
    }
    let (_, below) = clients.split_once("The crate also needs ").unwrap();
    let below = below.split(". ").next().unwrap();
    told += &format!(", {}", below.replace(" and runs on", ","));
    let mut seen = Words::new();
    for version in told
        .split(',')
        .map(str::trim)
        .filter(|told| !told.is_empty())
    {
        let (name, told) = version.split_once(' ').unwrap();
        let required = required(name);
        let is_prefix = required.strip_prefix(told);
        assert!(
            is_prefix.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
            "{name} {told}: Cargo.toml has {required}"
        );
        seen.insert(name.to_owned());
    }
    let wanted = [
        "reqwest",
        "tonic",
        "hyper",
        "hyper-util",
        "axum",
        "axum-core",
    ];
    let wanted = wanted
        .into_iter()
        .chain(["reqwest-middleware", "tower", "tokio"]);
    for name in wanted {
        assert!(seen.contains(name), "the README doesn't say which {name}");
    }
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
fn the_table_of_examples_has_each_with_its_command_and_no_other() {
    let page = text("examples/README.md");
    let mut told = Words::new();
    for row in rows(&page) {
        let [name, _, command] = row[..] else {
            panic!("{row:?}");
        };
        let name = quoted(name).swap_remove(0);
        let runs = format!("--example {name}");
        assert!(
            quoted(command)[0].split("cargo ").any(|run| {
                let after = run.split_once("--example ").map_or("", |(_, rest)| rest);
                after.split(' ').next() == Some(&name)
            }),
            "{command} doesn't run it: {runs}"
        );
        assert!(told.insert(name), "{row:?} is there twice");
    }
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
    let version = env!("CARGO_PKG_RUST_VERSION");
    for page in [section(&readme, "## Versions").to_owned(), crate_docs()] {
        let (_, told) = page.split_once("The minimum Rust version is ").unwrap();
        let told = told.split_whitespace().next().unwrap();
        assert_eq!(told, format!("{version}."));
    }
    assert!(readme.contains(&format!("/badge/rust-{version}+-")));
}

#[test]
fn the_workflow_runs_commands_of_the_test_script() {
    let script = text("tests/run.sh");
    let script = script.replace("\"${all[@]}\"", "--locked --workspace --all-features");
    let workflow = text(".github/workflows/ci.yml");
    let commands = workflow.lines().map(str::trim);
    let commands: Vec<&str> = commands
        .filter_map(|line| line.strip_prefix("- run: "))
        .collect();
    for command in &commands {
        let is_known = match command.split_once("bash ") {
            Some((_, file)) => place(file).is_file(),
            None => script.lines().any(|line| line.trim() == *command),
        };
        assert!(is_known, "{command}");
    }
    assert_eq!(commands.len(), 5);
}

/// Returns each `cargo` or `bash` command on a page, as a list of words.
fn commands(page: &str) -> Vec<Vec<&str>> {
    let in_blocks = code(page, "sh").into_iter().flat_map(str::lines);
    let in_lines = page
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let commands = in_blocks.chain(in_lines);
    let commands = commands.map(|command| command.split(" #").next().unwrap_or(command));
    // A command may contain another command: `export TOKEN=$(…)`, `… -- cargo run …`.
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
    let pages = [
        "README.md",
        "CONTRIBUTING.md",
        "examples/README.md",
        "benches/README.md",
    ];
    for page in pages {
        let page = text(page);
        for command in commands(&page) {
            let shown = command.join(" ");
            // `cargo add` may name another crate, whose features the compiler checks.
            if command.starts_with(&["cargo", "add"]) {
                let dependency = format!("\n{} = ", command[2]);
                let is_known = command[2] == "tower-auth" || manifest.text.contains(&dependency);
                assert!(is_known, "{shown}");
                continue;
            }
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
    for (folder, name) in [
        ("", "README.md"),
        ("", "CONTRIBUTING.md"),
        ("", "CHANGELOG.md"),
        ("", "SECURITY.md"),
        ("examples/", "README.md"),
        ("benches/", "README.md"),
    ] {
        let page = format!("{folder}{name}");
        let here = text(&page);
        for link in links(&here) {
            if let Some(name) = link.strip_prefix(PAGES) {
                let name = name.strip_prefix("docs/").unwrap_or(name);
                let name = name.trim_end_matches('/');
                assert!(name.is_empty() || pages.contains(name), "{page}: {link}");
            } else if let Some(anchor) = link.strip_prefix('#') {
                assert!(anchors(&here).contains(anchor), "{page}: {link}");
            } else if !link.contains("://") {
                let path = link.split('#').next().unwrap();
                let path = place(&format!("{folder}{path}"));
                assert!(path.exists(), "{page}: {link}");
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
            } else if let Some(path) = link.strip_prefix(&format!("{SITE}/blob/HEAD/")) {
                assert!(place(path).is_file(), "{link}");
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
    assert!(seen > 6, "{seen}");
}

#[test]
fn what_the_readme_says_to_use_is_in_the_guides_whole_table() {
    let readme = readme();
    let short = rows(section(&readme, "## What your API asks for"));
    assert_eq!(short.len(), 8);
    let guide = text("src/docs/choosing.md");
    let (_, whole) = guide.split_once("| your API asks for | use |\n").unwrap();
    let whole = whole.split("\n\n").next().unwrap();
    for row in short {
        for name in quoted(row[1]) {
            let name = name.rsplit("::").next().unwrap();
            assert!(whole.contains(name), "{name}");
        }
    }
}
