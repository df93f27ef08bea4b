//! Writes the answers as Markdown: tables, footnotes, versions and the machine.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use crate::contenders::{Contender, Visitor, all, is_ours};

/// A column of one of the tables.
pub struct Column {
    pub part: Part,
    pub head: String,
    pub cells: Vec<(&'static str, String)>,
}

/// The line below the picture.
const TAKEAWAY: &str = "Blue is this crate, and shorter is better. It fetches once where some others fetch once \
                        per caller, and no caller waits while a token is refreshed.";

/// The table that a column belongs to.
#[derive(Clone, Copy, PartialEq)]
pub enum Part {
    Cached,
    Cost,
    Empty,
    Failing,
    Expiring,
}

impl Part {
    const ALL: [Self; 5] = [
        Self::Cached,
        Self::Cost,
        Self::Empty,
        Self::Failing,
        Self::Expiring,
    ];

    /// The heading of the first column. `picture.rs` finds the tables by this heading.
    fn title(self) -> &'static str {
        match self {
            Self::Cached => "a request with a cached token",
            Self::Cost => "what it takes",
            Self::Empty => "10,000 callers without a token",
            Self::Failing => "1,000 callers, the source fails",
            Self::Expiring => "waits under load, tokens of 200 ms",
        }
    }
}

/// Returns the text between the markers of `benches/README.md`.
pub fn markdown(columns: &[Column], picture: Option<&str>, load: f64) -> String {
    let mut people = People(Vec::new());
    all(&mut people);
    let mut text = String::new();
    if let Some(picture) = picture {
        let _ = writeln!(text, "![The tables below as bars]({picture})\n");
        let _ = writeln!(text, "*{TAKEAWAY}*\n");
    }
    for part in Part::ALL {
        let columns: Vec<_> = columns
            .iter()
            .filter(|column| column.part == part)
            .collect();
        if !columns.is_empty() {
            table(&mut text, part, &columns, &people.0);
        }
    }
    notes(&mut text, &people.0);
    let _ = writeln!(text, "\n{}", circumstances(&people.0, load));
    text
}

fn table(text: &mut String, part: Part, columns: &[&Column], people: &[Person]) {
    let heads: Vec<_> = columns.iter().map(|column| column.head.as_str()).collect();
    let _ = writeln!(text, "| {} | {} |", part.title(), heads.join(" | "));
    let _ = writeln!(text, "| --- |{}", " --- |".repeat(heads.len()));
    for person in people {
        let of = |column: &&Column| {
            let cell = column.cells.iter().find(|(name, _)| *name == person.name);
            cell.map(|(_, cell)| cell.clone())
        };
        let cells: Vec<_> = columns.iter().map(of).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let cells: Vec<_> = cells
            .into_iter()
            .map(|cell| cell.unwrap_or_else(|| "–".into()))
            .collect();
        let name = match is_ours(person.name) {
            true => format!("**{}**", person.name),
            false => person.name.into(),
        };
        let mark = person.mark(people);
        let _ = writeln!(text, "| {name}{mark} | {} |", cells.join(" | "));
    }
    text.push('\n');
}

fn notes(text: &mut String, people: &[Person]) {
    for person in people {
        if let Some(note) = person.note {
            let _ = writeln!(text, "{}. {note}", number(person, people));
        }
    }
}

/// Returns the versions, the compiler and the machine.
fn circumstances(people: &[Person], load: f64) -> String {
    let mut versions: Vec<String> = Vec::new();
    for person in people {
        let version = format!("{} {}", person.package, version(person.package));
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let rustc = rustc.unwrap_or_default();
    // Drops the commit and the date from the compiler's version.
    let rustc = rustc
        .split(" (")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let busy = match load > QUIET {
        true => format!(" **The machine was busy (load {load:.1}): a trial.**"),
        false => String::new(),
    };
    format!(
        "One run of {}; {rustc}; {cores} cores of {}.{busy}",
        versions.join(", "),
        processor(),
    )
}

/// Above this load, threads that should run in parallel take turns on a core. The figures then also
/// contain the time that these threads wait.
const QUIET: f64 = 0.7;

/// Returns the load average of the last minute.
pub fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    load.parse().unwrap_or(0.0)
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map(|model| model.trim_start_matches([' ', '\t', ':']));
    model.unwrap_or("an unknown processor").into()
}

/// Returns the package's version in `Cargo.lock`, or the newest version if there are several.
fn version(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let wanted = format!("name = \"{package}\"");
    let mut lines = lock.lines();
    let mut newest = "?";
    while let Some(line) = lines.next() {
        if line == wanted {
            let line = lines.next().unwrap_or_default();
            newest = line.trim_start_matches("version = ").trim_matches('"');
        }
    }
    newest
}

const BEGIN: &str = "<!-- peers:begin -->\n";
const END: &str = "<!-- peers:end -->";

/// Writes the answers between the markers of `benches/README.md`.
pub fn put_into_readme(markdown: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = fs::read_to_string(path).expect("the README is where it was");
    let (before, rest) = readme.split_once(BEGIN).expect("the README has a marker");
    let (_, after) = rest.split_once(END).expect("the README has both markers");
    let readme = format!("{before}{BEGIN}{markdown}{END}{after}");
    fs::write(path, readme).expect("the README can be written");
}

struct People(Vec<Person>);

struct Person {
    name: &'static str,
    package: &'static str,
    note: Option<&'static str>,
}

impl Person {
    /// Returns the mark of the contender's footnote, if there is a footnote.
    fn mark(&self, people: &[Person]) -> String {
        match self.note {
            Some(_) => format!("<sup>{}</sup>", number(self, people)),
            None => String::new(),
        }
    }
}

/// Returns the number of the contender's footnote.
fn number(of: &Person, people: &[Person]) -> usize {
    let before = people.iter().take_while(|person| person.name != of.name);
    1 + before.filter(|person| person.note.is_some()).count()
}

impl Visitor for People {
    fn visit<C: Contender>(&mut self) {
        self.0.push(Person {
            name: C::NAME,
            package: C::PACKAGE,
            note: C::NOTE,
        });
    }
}
