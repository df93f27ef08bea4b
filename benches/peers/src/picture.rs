//! Draws the most important columns as bars, one panel for each column. An axis is logarithmic if
//! some bars are hundreds of times as long as others.
//!
//! The figures come from the tables in Markdown. So the picture can be drawn again without new
//! measurements.
//! `tests/it/documented/pictures.rs` includes this file too, and compares `peers.svg` with the tables of
//! `benches/README.md`.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The columns that are drawn. Each entry contains the table's heading, the column's heading and the panel's title.
const PANELS: [(&str, &str, &str); 6] = [
    (
        "a request with a cached token",
        "1 thread",
        "A request with a cached token, net",
    ),
    (
        "a request with a cached token",
        "2 threads",
        "The same on two threads",
    ),
    (
        "10,000 callers without a token",
        "heap per caller",
        "Heap per caller, of 10,000 that wait for a token",
    ),
    (
        "1,000 callers, the source fails",
        "fetches",
        "Fetches of 1,000 callers while the source fails",
    ),
    (
        "1,000 callers, the source fails",
        "the last error after",
        "Time until the last of them has its error",
    ),
    (
        "waits under load, tokens of 200 ms",
        "the longest",
        "The longest wait under load, tokens of 200 ms",
    ),
];

const WIDTH: u32 = 1_000;
const ROW: i32 = 19;
const TITLE: i32 = 44;
/// The height below the rows, for the labels of an axis.
const BELOW: i32 = 24;
/// The x coordinate where bars begin, and the x coordinate where the longest bar ends.
const FROM: i32 = 190;
const TO: i32 = 390;

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb2);
const OTHERS: RGBColor = RGBColor(0xb4, 0xbc, 0xc4);
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
const PALE: RGBColor = RGBColor(0x6a, 0x73, 0x7d);
const LINE: RGBColor = RGBColor(0xd8, 0xdd, 0xe2);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One row of a panel.
struct Bar {
    name: String,
    is_ours: bool,
    /// The text of the cell in the table.
    text: String,
    value: f64,
    unit: Unit,
}

/// A unit: its name, and its size in the smallest unit of the same quantity.
#[derive(Clone, Copy)]
struct Unit(&'static str, f64);

const UNITS: [Unit; 6] = [
    Unit("ns", 1.0),
    Unit("µs", 1e3),
    Unit("ms", 1e6),
    Unit("s", 1e9),
    Unit("B", 1.0),
    Unit("", 1.0),
];

impl Bar {
    /// Reads a row. Returns `None` if its cell has no figure.
    fn read(name: &str, cell: &str) -> Option<Self> {
        // A cell contains `82 ns, 2.5 ×` or `57,651 ns`, for example.
        let figure = cell.split(", ").next()?;
        let (number, unit) = figure.split_once(' ').unwrap_or((figure, ""));
        let number: f64 = number.replace(',', "").parse().ok()?;
        let unit = *UNITS.iter().find(|known| known.0 == unit)?;
        let shown = name.split("<sup>").next().unwrap_or(name);
        let shown = shown.trim_matches('*').split(" (").next()?;
        Some(Self {
            name: shown.to_owned(),
            is_ours: name.starts_with("**"),
            text: cell.to_owned(),
            value: number * unit.1,
            unit,
        })
    }
}

fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// Reads a column of a table.
fn column(markdown: &str, table: &str, head: &str) -> Option<Vec<Bar>> {
    let start = format!("| {table} | ");
    let mut lines = markdown
        .lines()
        .skip_while(|line| !line.starts_with(&start));
    let at = cells(lines.next()?).iter().position(|cell| *cell == head)?;
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let rows = rows.map(cells);
    Some(
        rows.filter_map(|row| Bar::read(row[0], row.get(at)?))
            .collect(),
    )
}

/// Draws the columns that `PANELS` names, two panels side by side.
pub fn svg(markdown: &str) -> Result<String, Box<dyn Error>> {
    let mut panels = Vec::new();
    for (table, head, title) in PANELS {
        let bars = column(markdown, table, head).filter(|bars| !bars.is_empty());
        panels.push((
            title,
            bars.ok_or_else(|| format!("no `{head}` of `{table}`"))?,
        ));
    }
    let heights: Vec<i32> = panels
        .chunks(2)
        .map(|pair| {
            let rows = pair.iter().map(|(_, bars)| bars.len()).max().unwrap_or(0);
            TITLE + ROW * i32::try_from(rows).unwrap_or(0) + BELOW
        })
        .collect();
    let height: i32 = heights.iter().sum::<i32>() + 10;
    let mut svg = String::new();
    let size = (WIDTH, height.unsigned_abs());
    let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let mut top = 0;
    for (pair, height) in panels.chunks(2).zip(heights) {
        for ((title, bars), left) in pair.iter().zip([20, 20 + i32::try_from(WIDTH / 2)?]) {
            panel(&root, (left, top), title, bars)?;
        }
        top += height;
    }
    root.present()?;
    drop(root);
    Ok(svg)
}

fn panel(
    root: &Area<'_>,
    (left, top): (i32, i32),
    title: &str,
    bars: &[Bar],
) -> Result<(), Box<dyn Error>> {
    let values = || bars.iter().map(|bar| bar.value);
    let most = values().fold(0.0, f64::max);
    let least = values().fold(most, f64::min);
    let is_logarithmic = most > 30.0 * least;
    let title = match is_logarithmic {
        true => format!("{title} (logarithmic axis)"),
        false => title.into(),
    };
    let bold = font(14, &INK, HPos::Left);
    root.draw(&Text::new(title, (left, top + 28), bold))?;
    // A logarithmic axis begins at half of the least value, so that the shortest bar is visible.
    let origin = least / 2.0;
    let share = |value: f64| match is_logarithmic {
        true => (value / origin).ln() / (most / origin).ln(),
        false => value / most,
    };
    let end_of = |value: f64| left + FROM + (share(value) * f64::from(TO - FROM)) as i32;
    if is_logarithmic {
        let bottom = top + TITLE + ROW * i32::try_from(bars.len())?;
        let unit = bars
            .iter()
            .find(|bar| bar.value == most)
            .map(|bar| bar.unit);
        for tick in powers_of_ten(origin, most) {
            let x = end_of(tick);
            let line = [(x, top + TITLE), (x, bottom + 3)];
            root.draw(&PathElement::new(line, LINE))?;
            let label = written(tick, unit.unwrap_or(UNITS[5]));
            let below = font(11, &PALE, HPos::Center);
            root.draw(&Text::new(label, (x, bottom + 10), below))?;
        }
    }
    for (at, bar) in bars.iter().enumerate() {
        let middle = top + TITLE + ROW * i32::try_from(at)? + ROW / 2;
        let end = end_of(bar.value).max(left + FROM + 1);
        let (fill, ink) = match bar.is_ours {
            true => (OURS, &OURS),
            false => (OTHERS, &INK),
        };
        let shape = [(left + FROM, middle - 6), (end, middle + 6)];
        root.draw(&Rectangle::new(shape, fill.filled()))?;
        let right = font(12, ink, HPos::Right);
        root.draw(&Text::new(
            bar.name.clone(),
            (left + FROM - 8, middle),
            right,
        ))?;
        let value = font(12, ink, HPos::Left);
        root.draw(&Text::new(bar.text.clone(), (end + 5, middle), value))?;
    }
    Ok(())
}

fn powers_of_ten(from: f64, to: f64) -> impl Iterator<Item = f64> {
    let powers = (from.log10().ceil() as i32)..=(to.log10().floor() as i32);
    powers.map(|power| 10_f64.powi(power))
}

/// Writes a tick in this unit. If the tick is less than 1, writes it in the largest unit that fits.
fn written(tick: f64, unit: Unit) -> String {
    let times = &UNITS[..4];
    let smaller = times.iter().rev().find(|smaller| tick >= smaller.1);
    let unit = match smaller {
        Some(smaller) if unit.1 > tick => *smaller,
        _ => unit,
    };
    let number = format!("{:.0}", tick / unit.1);
    let mut grouped = String::new();
    for (at, digit) in number.chars().enumerate() {
        if at > 0 && (number.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} {}", unit.0).trim_end().to_owned()
}

fn font<'a>(size: i32, colour: &'a RGBColor, at: HPos) -> TextStyle<'a> {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(colour);
    style.pos(Pos::new(at, VPos::Center))
}
