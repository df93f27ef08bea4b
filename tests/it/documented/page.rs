//! Reads a Markdown page for the documentation tests: its sections, tables, quoted words and links.

use std::collections::BTreeSet;
use std::fs;

use crate::support::tree::place;

pub(crate) type Words = BTreeSet<String>;

/// Returns the names of the files in a folder, without this ending. Files with other endings are
/// left out.
pub(crate) fn names_in(folder: &str, ending: &str) -> Words {
    let entries = fs::read_dir(place(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| Some(name.strip_suffix(ending)?.to_owned()))
        .collect()
}

/// Returns the text of a section, including its subsections.
pub(crate) fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = format!("\n{heading}\n");
    let (_, rest) = page
        .split_once(&start)
        .unwrap_or_else(|| panic!("no `{heading}`"));
    let marks = heading.split(' ').next().unwrap();
    rest.split(&format!("\n{marks} ")).next().unwrap()
}

/// Returns the cells of each table row.
pub(crate) fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_row = |line: &&str| line.starts_with('|');
    // Skips the header row and the rule below that row.
    let is_rule = |line: &str| line.starts_with("| ---");
    let rows = lines.iter().enumerate().filter(|(at, line)| {
        is_row(line) && !is_rule(line) && !lines.get(at + 1).is_some_and(|next| is_rule(next))
    });
    rows.map(|(_, row)| {
        let row = row.strip_prefix('|').unwrap();
        let cells = row.strip_suffix('|').unwrap_or(row).split('|');
        cells.map(str::trim).collect()
    })
    .collect()
}

/// Returns the texts in backticks.
pub(crate) fn quoted(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// Returns the text without its links: `[text](target)` becomes `text`.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let (start, link) = before.rsplit_once('[').unwrap();
        plain.extend([start, link]);
        rest = after.split_once(')').unwrap().1;
    }
    plain + rest
}

/// Returns the code blocks whose info string starts with `kind`.
pub(crate) fn code<'a>(page: &'a str, kind: &str) -> Vec<&'a str> {
    let blocks = page.split("```").skip(1).step_by(2);
    blocks
        .filter_map(|block| {
            let (head, code) = block.split_once('\n')?;
            head.starts_with(kind).then_some(code)
        })
        .collect()
}

/// Returns the targets of the links.
pub(crate) fn links(page: &str) -> Vec<&str> {
    let links = page
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    links.collect()
}

/// Returns the texts of an SVG.
pub(crate) fn shown_texts(svg: &str) -> Vec<String> {
    let texts = svg.split("<text ").skip(1);
    let texts = texts.filter_map(|text| text.split_once('>')?.1.split('<').next());
    texts.map(|text| text.trim().to_owned()).collect()
}

/// Returns the anchors of the headings.
pub(crate) fn anchors(page: &str) -> Words {
    let mut is_code = false;
    let mut anchors = Words::new();
    for line in page.lines() {
        is_code ^= line.starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !is_code) else {
            continue;
        };
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    anchors
}

/// Returns the `//!` documentation at the top of a file.
pub(crate) fn opening(code: &str) -> String {
    let lines = code.lines().map_while(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.map(|line| format!("{line}\n")).collect()
}
