//! Examples and diagrams fit the page that shows them.

use std::ops::RangeInclusive;

use crate::support::tree::{place, rust_files, text};

/// Columns of code that rustdoc shows in a window of 1,200 pixels, without scrolling.
const EXAMPLE: usize = 90;

/// Columns that it shows in a window of 600 pixels.
const DIAGRAM: usize = 51;

const BOX_DRAWING: RangeInclusive<char> = '\u{2500}'..='\u{257f}';

/// A code block of a page, with the number of its first line.
struct Block {
    at: String,
    lines: Vec<String>,
    is_text: bool,
}

/// Returns the code blocks of Markdown, without the lines that rustdoc hides.
fn blocks(path: &str, lines: impl Iterator<Item = (usize, String)>) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (number, line) in lines {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            if !is_open {
                blocks.push(Block {
                    at: format!("{path}:{number}"),
                    lines: Vec::new(),
                    is_text: language == "text",
                });
            }
            is_open = !is_open;
        } else if is_open && !line.starts_with("# ") {
            blocks.last_mut().unwrap().lines.push(line);
        }
    }
    blocks
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, String)> {
    (1..).zip(text.lines().map(str::to_owned))
}

/// Returns the doc comments of a Rust file as Markdown.
fn doc_comments(text: &str) -> impl Iterator<Item = (usize, String)> {
    numbered(text).filter_map(|(number, line)| {
        let line = line.trim_start();
        let doc = line.strip_prefix("///").or(line.strip_prefix("//!"))?;
        Some((number, doc.strip_prefix(' ').unwrap_or(doc).to_owned()))
    })
}

#[test]
fn no_line_of_an_example_or_a_diagram_is_cut_off() {
    // The diagrams of private modules are not on any page.
    let root = text("src/lib.rs");
    let shows_diagrams = |path: &str| {
        let folder = path
            .strip_prefix("src/")
            .and_then(|path| path.strip_suffix("/mod.rs"));
        path == "src/lib.rs"
            || path.ends_with(".md")
            || folder.is_some_and(|folder| root.contains(&format!("pub mod {folder};")))
    };
    let mut all = Vec::new();
    for top in ["src", "crates/tower-auth-test/src"] {
        for (name, file) in rust_files(top) {
            let path = format!("{top}/{name}");
            all.push((blocks(&path, doc_comments(&file)), path));
        }
    }
    for page in std::fs::read_dir(place("src/docs")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            let path = format!("src/docs/{name}");
            all.push((blocks(&path, numbered(&text(&path))), path));
        }
    }
    let (mut diagrams, mut examples) = (0, 0);
    let mut cut_off = Vec::new();
    for (blocks, path) in &all {
        for block in blocks {
            let is_diagram = block.is_text
                && block
                    .lines
                    .iter()
                    .any(|line| line.contains(|c| BOX_DRAWING.contains(&c)));
            let limit = match (is_diagram, shows_diagrams(path)) {
                (true, true) => DIAGRAM,
                (true, false) => continue,
                (false, _) => EXAMPLE,
            };
            *(if is_diagram {
                &mut diagrams
            } else {
                &mut examples
            }) += 1;
            let wide = block
                .lines
                .iter()
                .filter(|line| line.chars().count() > limit);
            cut_off.extend(wide.map(|line| format!("{}: over {limit} columns: {line}", block.at)));
        }
    }
    assert!(
        diagrams > 5 && examples > 100,
        "{diagrams} diagrams, {examples} examples"
    );
    assert!(cut_off.is_empty(), "{}", cut_off.join("\n"));
}
