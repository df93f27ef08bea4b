//! The guide is correct: its figures match the code, its links resolve, and every page is listed.

use super::page::{Words, anchors, links, names_in, opening, quoted, rows, section};
use crate::support::tree::text;

/// The first words of each row in the table of defaults, and where the code has the figure.
const FIGURES: [(&str, &str, &str); 33] = [
    (
        "a token is refreshed before",
        "cache/expiry.rs",
        "REFRESH_BEFORE",
    ),
    (
        "… if it lives for less than this",
        "cache/expiry.rs",
        "LONG_LIFETIME",
    ),
    (
        "it is no longer sent before",
        "cache/expiry.rs",
        "EXPIRY_MARGIN",
    ),
    (
        "up to which share of the time",
        "cache/builder.rs",
        "jitter",
    ),
    ("a fetch, with all", "cache/builder.rs", "FETCH_TIMEOUT"),
    ("attempts of a fetch", "cache/builder.rs", "attempts"),
    (
        "the first pause between them",
        "cache/fetch_task.rs",
        "FIRST_PAUSE",
    ),
    ("the longest", "cache/fetch_task.rs", "LONGEST_PAUSE"),
    (
        "one exchange with a token endpoint",
        "http_client/endpoint_client.rs",
        "TIMEOUT",
    ),
    (
        "the longest answer that is read of it",
        "http_client/bounded_response.rs",
        "RESPONSE_LIMIT",
    ),
    (
        "the lifetime, if neither",
        "http_client/token_response.rs",
        "ASSUMED_LIFETIME",
    ),
    (
        "after a fetch that failed",
        "cache/failure_backoff.rs",
        "FIRST",
    ),
    (
        "the longest of those",
        "cache/failure_backoff.rs",
        "LONGEST",
    ),
    (
        "after one that failed",
        "cache/failure_backoff.rs",
        "PERMANENT",
    ),
    (
        "the longest `Retry-After`",
        "cache/failure_backoff.rs",
        "RETRY_AFTER_LIMIT",
    ),
    (
        "the least from the fetch",
        "cache/builder.rs",
        "attempt_floor",
    ),
    (
        "the refusal budget's first wait",
        "cache/refusal_budget.rs",
        "FIRST",
    ),
    (
        "… if the token is known to be revoked",
        "cache/refusal_budget.rs",
        "FIRST_IF_REVOKED",
    ),
    (
        "the longest of these waits",
        "cache/refusal_budget.rs",
        "LONGEST",
    ),
    (
        "acceptances are recorded",
        "cache/refusal_history.rs",
        "WATCH",
    ),
    (
        "resources that are remembered",
        "cache/refusal_evidence.rs",
        "CAPACITY",
    ),
    (
        "resources whose refusals prove",
        "cache/refusal_evidence.rs",
        "SEVERAL",
    ),
    (
        "refusals in a row that prove",
        "cache/refusal_evidence.rs",
        "LONG_ROW",
    ),
    (
        "a refused token that is younger",
        "cache/state_machine/reject.rs",
        "CLOCK_LAG",
    ),
    (
        "the pause before such a token",
        "cache/state_machine/reject.rs",
        "PAUSE",
    ),
    (
        "of a body that is kept",
        "layer/auth_layer.rs",
        "BODY_LIMIT",
    ),
    ("closing", "cache/builder.rs", "close_timeout"),
    (
        "a secret in a file or a variable",
        "source/secret_source.rs",
        "REREAD_EVERY",
    ),
    (
        "metadata is kept for",
        "oauth2/discovery/document.rs",
        "LIFETIME",
    ),
    (
        "a [`Fleet`](crate::fleet::Fleet)'s lease",
        "fleet/settings.rs",
        "LEASE_TIME",
    ),
    (
        "its store's time to answer",
        "fleet/settings.rs",
        "STORE_TIMEOUT",
    ),
    (
        "[`Tenants`](crate::tenants::Tenants) that are kept",
        "tenants/registry.rs",
        "CAPACITY",
    ),
    ("… after their last request", "tenants/registry.rs", "IDLE"),
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
    assert!(seen > 15, "{seen}");
}
