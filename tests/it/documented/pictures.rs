//! The pictures show the figures of the tables beside them.

use super::page::{rows, section, shown_texts};
use crate::support::tree::{place, text};

#[path = "../../../benches/peers/src/picture.rs"]
#[allow(unreachable_pub, reason = "the peers' package has it in public")]
mod picture;

/// With `REDRAW=1`, this test draws the picture again.
#[test]
fn the_bars_of_the_peers_show_the_tables_of_their_page() {
    let drawn = picture::svg(&text("benches/README.md")).unwrap();
    let file = "benches/peers/peers.svg";
    if std::env::var_os("REDRAW").is_some() {
        std::fs::write(place(file), &drawn).unwrap();
    }
    assert!(
        text(file) == drawn,
        "{file} shows other figures: run this with REDRAW=1"
    );
}

#[test]
fn a_logarithmic_panel_has_an_axis_and_no_other_has_one() {
    let table = |values: [&str; 2]| {
        let rows = values.map(|value| format!("| **ours** | {value} | {value} |\n"));
        let rule = "| --- | --- | --- |\n";
        let heads = [
            ("a request with a cached token", "1 thread | 2 threads"),
            ("10,000 callers without a token", "heap per caller | x"),
            (
                "1,000 callers, the source fails",
                "fetches | the last error after",
            ),
            ("waits under load, tokens of 200 ms", "p99 | the longest"),
        ];
        let tables =
            heads.map(|(title, heads)| format!("| {title} | {heads} |\n{rule}{}\n", rows.concat()));
        tables.concat()
    };
    let wide = shown_texts(&picture::svg(&table(["80 µs", "57 ms"])).unwrap());
    for tick in ["100 µs", "1 ms", "10 ms"] {
        assert_eq!(
            wide.iter().filter(|text| *text == tick).count(),
            6,
            "{tick}: {wide:?}"
        );
    }
    assert!(wide.iter().any(|text| text.ends_with("(logarithmic axis)")));
    let narrow = shown_texts(&picture::svg(&table(["80 ns", "90 ns"])).unwrap());
    assert_eq!(narrow.len(), 6 * 5, "{narrow:?}");
    // A table that lacks a row or a column is an error.
    assert!(picture::svg("| a request with a cached token | 3 threads |\n").is_err());
}

#[test]
fn numbers_in_pictures_have_thousands_set_apart() {
    for file in [
        "benches/peers/peers.svg",
        "examples/extra/chaos.svg",
        "examples/extra/fleet_sim.svg",
    ] {
        let texts = shown_texts(&text(file));
        assert!(texts.len() > 20, "{file}: {texts:?}");
        for text in texts {
            let mut words = text.split(|c: char| !c.is_ascii_digit());
            assert!(words.all(|digits| digits.len() < 4), "{file}: {text}");
        }
    }
}

#[test]
fn the_simulated_fleet_has_the_figures_of_the_guide() {
    let shown = shown_texts(&text("examples/extra/fleet_sim.svg"));
    let guide = text("src/docs/fleet.md");
    let rows = rows(section(&guide, "# Sizing"));
    let rows: Vec<_> = rows.iter().filter(|row| row[1].contains('(')).collect();
    let rows = rows
        .iter()
        .filter(|row| row[0].starts_with(|c: char| c.is_ascii_digit()));
    let mut seen = 0;
    for row in rows {
        for figure in row.iter().flat_map(|cell| cell.split(['(', ')', ' '])) {
            assert!(
                figure.is_empty() || shown.iter().any(|text| text == figure),
                "{figure} isn't in {shown:?}"
            );
        }
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn what_the_readme_says_of_cost_is_what_was_measured() {
    let page = text("benches/README.md");
    let of = |row: &str, cell: usize, head: &str| {
        let (_, table) = page.split_once(&format!("| {head} | ")).unwrap();
        let rows = rows(table.split("\n\n").next().unwrap());
        let row = rows.iter().find(|cells| cells[0].contains(row)).unwrap();
        row[cell].to_owned()
    };
    let cached = "a request with a cached token";
    let off = of("tower-auth, replay off", 1, cached);
    let on = of("tower-auth, replay on", 1, cached);
    let call = of("tower-auth, replay off", 2, "what it takes");
    let figure = |cell: &str| cell.split([',', '(']).next().unwrap().trim().to_owned();
    let told = format!(
        "adds {} to a request, or {} with replay. A call on loopback takes about {}.",
        figure(&off),
        figure(&on),
        figure(&call),
    );
    let readme = text("README.md").replace('\n', " ");
    assert!(readme.contains(&told), "{told}");
    let times = |cell: &str| {
        cell.trim_end_matches(" ×")
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    let told = format!(
        "{} times as much as a fixed header, or {} times with replay",
        times(&off),
        times(&on)
    );
    assert!(page.replace('\n', " ").contains(&told), "{told}");
}
