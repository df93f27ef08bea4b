//! The guide is correct: its figures match the code, its links resolve, and every page is listed.

use super::page::{Words, anchors, links, names_in, opening, quoted, rows, section};
use crate::support::tree::{rust_files, text};

/// For each row in the table of defaults: its first words, the file of the figure, and the name of
/// the figure.
const FIGURES: [(&str, &str, &str); 35] = [
    (
        "a token is refreshed this long",
        "cache/expiry.rs",
        "REFRESH_BEFORE",
    ),
    (
        "for shorter lifetimes than this",
        "cache/expiry.rs",
        "LONG_LIFETIME",
    ),
    (
        "a token isn't sent in this last part",
        "cache/expiry.rs",
        "EXPIRY_MARGIN",
    ),
    (
        "a refresh is delayed at random",
        "cache/builder.rs",
        "jitter",
    ),
    ("limit of a fetch", "cache/builder.rs", "FETCH_TIMEOUT"),
    ("attempts per fetch", "cache/builder.rs", "attempts"),
    ("first pause between", "cache/fetch_task.rs", "FIRST_PAUSE"),
    (
        "longest pause between",
        "cache/fetch_task.rs",
        "LONGEST_PAUSE",
    ),
    (
        "limit of one request to a token",
        "http_client/endpoint_client.rs",
        "TIMEOUT",
    ),
    (
        "longest response from a token",
        "http_client/bounded_response.rs",
        "RESPONSE_LIMIT",
    ),
    (
        "lifetime, if neither",
        "http_client/token_response.rs",
        "ASSUMED_LIFETIME",
    ),
    (
        "first wait after a failed fetch",
        "cache/failure_backoff.rs",
        "FIRST",
    ),
    (
        "longest wait after failed",
        "cache/failure_backoff.rs",
        "LONGEST",
    ),
    (
        "wait after a [permanent error]",
        "cache/failure_backoff.rs",
        "PERMANENT",
    ),
    (
        "the same, if it [requires a login]",
        "cache/failure_backoff.rs",
        "LOGIN_REQUIRED",
    ),
    (
        "longest `Retry-After`",
        "cache/failure_backoff.rs",
        "RETRY_AFTER_LIMIT",
    ),
    (
        "least time from the fetch",
        "cache/builder.rs",
        "attempt_floor",
    ),
    (
        "first wait of the refusal budget",
        "cache/refusal_budget.rs",
        "FIRST",
    ),
    (
        "first wait if the token is known",
        "cache/refusal_budget.rs",
        "FIRST_IF_REVOKED",
    ),
    (
        "longest wait of the refusal",
        "cache/refusal_budget.rs",
        "LONGEST",
    ),
    (
        "acceptances are recorded",
        "cache/refusal_history.rs",
        "WATCH",
    ),
    (
        "resources remembered",
        "cache/refusal_evidence.rs",
        "CAPACITY",
    ),
    (
        "resources whose refusals together",
        "cache/refusal_evidence.rs",
        "SEVERAL",
    ),
    (
        "refusals in a row that prove",
        "cache/refusal_evidence.rs",
        "LONG_ROW",
    ),
    (
        "a refused token younger",
        "cache/state_machine/reject.rs",
        "CLOCK_LAG",
    ),
    (
        "pause before such a token",
        "cache/state_machine/reject.rs",
        "PAUSE",
    ),
    (
        "part of a body that is kept",
        "layer/auth_layer.rs",
        "BODY_LIMIT",
    ),
    ("limit of closing", "cache/builder.rs", "close_timeout"),
    (
        "a secret in a file or variable",
        "source/secret_source.rs",
        "REREAD_EVERY",
    ),
    (
        "metadata is cached for",
        "oauth2/discovery/document.rs",
        "LIFETIME",
    ),
    (
        "wait for the lock of a login",
        "oauth2/grants/login_lock.rs",
        "LOCK_TIMEOUT",
    ),
    ("lease of a [`Fleet`]", "fleet/settings.rs", "LEASE_TIME"),
    (
        "limit of a call of its store",
        "fleet/settings.rs",
        "STORE_TIMEOUT",
    ),
    (
        "[`Tenants`](crate::tenants::Tenants) in memory",
        "tenants/registry.rs",
        "CAPACITY",
    ),
    ("tenants are kept after", "tenants/registry.rs", "IDLE"),
];

/// A duration or a count.
#[derive(Debug, PartialEq)]
enum Figure {
    Milliseconds(f64),
    Count(f64),
}

/// Reads a figure as the guide writes it: `5 min`, `64 KiB`, `10,000`.
fn told(figure: &str) -> Figure {
    let (number, unit) = figure.split_once(' ').unwrap_or((figure, ""));
    let number: f64 = number.replace(',', "").parse().unwrap();
    match unit {
        "ms" => Figure::Milliseconds(number),
        "s" => Figure::Milliseconds(number * 1e3),
        "min" => Figure::Milliseconds(number * 6e4),
        "h" => Figure::Milliseconds(number * 3.6e6),
        "KiB" => Figure::Count(number * 1024.0),
        "" => Figure::Count(number),
        other => panic!("what is a {other}?"),
    }
}

/// Reads a figure as the code writes it: `Duration::from_secs(5 * 60)`, `64 * 1024`.
fn written(value: &str) -> Figure {
    let product = |factors: &str| -> f64 {
        let factors = factors
            .split('*')
            .map(|factor| factor.trim().replace('_', ""));
        factors
            .map(|factor| factor.parse::<f64>().unwrap())
            .product()
    };
    let inner = |from: &str| value.strip_prefix(from)?.strip_suffix(')').map(product);
    match (
        inner("Duration::from_secs("),
        inner("Duration::from_millis("),
    ) {
        (Some(seconds), _) => Figure::Milliseconds(seconds * 1e3),
        (_, Some(milliseconds)) => Figure::Milliseconds(milliseconds),
        _ => Figure::Count(product(value)),
    }
}

/// Returns the value of a constant or of a field.
fn value(file: &str, name: &str) -> Figure {
    let code = text(&format!("src/{file}"));
    let values = code.lines().filter_map(|line| {
        let (_, value) = line.split_once(&format!("{name}: "))?;
        let is_whole =
            line.trim_start().starts_with(name) || line.contains(&format!("const {name}: "));
        let value = value.split_once(" = ").map_or(value, |(_, value)| value);
        let value = value.trim_end_matches([',', ';']);
        let is_value =
            value.starts_with("Duration::from_") || value.starts_with(|c: char| c.is_ascii_digit());
        (is_whole && is_value).then_some(value)
    });
    let values: Vec<&str> = values.collect();
    assert_eq!(values.len(), 1, "{name} in {file}: {values:?}");
    written(values[0])
}

#[test]
fn each_default_in_the_guide_is_the_codes() {
    let page = text("src/docs/how_it_works.md");
    let rows = rows(section(&page, "# Defaults"));
    assert_eq!(rows.len(), FIGURES.len());
    for (row, (what, file, name)) in rows.iter().zip(FIGURES) {
        assert!(row[0].starts_with(what), "{row:?} is where `{what}` was");
        assert_eq!(told(row[1]), value(file, name), "{row:?}: {name} in {file}");
    }
}

#[test]
fn the_versions_in_the_comparison_are_those_of_the_benchmarks() {
    let page = text("src/docs/comparing.md");
    let lock = text("benches/peers/Cargo.lock");
    let mut seen = 0;
    for row in rows(section(&page, "# What was checked")) {
        for (name, version) in quoted(row[0]).iter().zip(row[1].split(", ")) {
            let entry = format!("name = \"{name}\"\n");
            if lock.contains(&entry) {
                let entry = format!("{entry}version = \"{version}\"\n");
                assert!(lock.contains(&entry), "{name} {version}");
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "{seen}");
}

fn pages() -> Words {
    names_in("src/docs", ".md")
}

fn page(name: &str) -> String {
    text(&format!("src/docs/{name}.md"))
}

#[test]
fn the_guide_and_the_crate_tell_of_each_page() {
    let module = text("src/docs/mod.rs");
    let docs = opening(&text("src/lib.rs"));
    let in_crate = rows(section(&docs, "# The guide")).into_iter();
    let in_crate: Words = in_crate
        .flat_map(|row| quoted(row[1]))
        .map(|name| name.replace("docs::", ""))
        .collect();
    assert_eq!(in_crate, pages());
    let guide = opening(&module);
    let first_cells = rows(&guide);
    let in_guide: Words = first_cells.iter().flat_map(|row| quoted(row[0])).collect();
    assert_eq!(in_guide, pages());
    let modules = module
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod "));
    let modules: Words = modules
        .map(|rest| rest.trim_end_matches(" {}").to_owned())
        .collect();
    assert_eq!(modules, pages());
}

#[test]
fn each_link_to_a_section_of_the_guide_leads_there() {
    let mut seen = 0;
    for name in pages() {
        let here = page(&name);
        for link in links(&here) {
            let Some((to, anchor)) = link.split_once('#') else {
                continue;
            };
            if to.contains("://") {
                continue;
            }
            let there = match to.strip_prefix("crate::docs::") {
                Some(other) => page(other),
                None => here.clone(),
            };
            assert!(anchors(&there).contains(anchor), "{name}: {link}");
            seen += 1;
        }
    }
    for (file, code) in rust_files("src") {
        for link in links(&code) {
            let to = link.strip_prefix("crate::docs::");
            if let Some((name, anchor)) = to.and_then(|to| to.split_once('#')) {
                assert!(anchors(&page(name)).contains(anchor), "{file}: {link}");
            }
        }
    }
    assert!(seen > 15, "{seen}");
}
