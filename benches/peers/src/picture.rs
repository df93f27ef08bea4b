//! Draws the most interesting columns as bars, one panel each. The axis is logarithmic where some
//! bars are hundreds of times as long as others.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::contenders::is_ours;
use crate::report::{Cell, Column};

const WIDTH: u32 = 1_000;
const ROW: i32 = 19;
const TITLE: i32 = 44;
/// Where the bars begin, and where the longest bar ends.
const FROM: i32 = 190;
const TO: i32 = 390;

/// Smaller values are drawn as this value.
const LEAST: f64 = 1e-3;

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb2);
const OTHERS: RGBColor = RGBColor(0xb4, 0xbc, 0xc4);
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
const PALE: RGBColor = RGBColor(0x6a, 0x73, 0x7d);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws all columns that have a title, two in each row.
pub fn draw(columns: &[Column], path: &Path) -> Result<(), Box<dyn Error>> {
    let panels: Vec<_> = columns
        .iter()
        .filter_map(|column| Some((column.bars?, &column.cells[..])))
        .collect();
    let heights: Vec<i32> = panels
        .chunks(2)
        .map(|pair| {
            let rows = pair.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
            TITLE + ROW * i32::try_from(rows).unwrap_or(0) + 10
        })
        .collect();
    let height: i32 = heights.iter().sum::<i32>() + 30;
    let root = SVGBackend::new(path, (WIDTH, height.unsigned_abs())).into_drawing_area();
    root.fill(&WHITE)?;
    let mut top = 0;
    for (pair, height) in panels.chunks(2).zip(heights) {
        for ((title, cells), left) in pair.iter().zip([20, 20 + i32::try_from(WIDTH / 2)?]) {
            panel(&root, (left, top), title, cells)?;
        }
        top += height;
    }
    let below = "shorter is better";
    root.draw(&Text::new(
        below,
        (20, top + 8),
        font(12, &PALE, HPos::Left),
    ))?;
    root.present()?;
    Ok(())
}

fn panel(
    root: &Area<'_>,
    (left, top): (i32, i32),
    title: &str,
    cells: &[(&str, Cell)],
) -> Result<(), Box<dyn Error>> {
    let most = cells
        .iter()
        .map(|(_, cell)| cell.value)
        .fold(LEAST, f64::max);
    let least = cells.iter().map(|(_, cell)| cell.value.max(LEAST));
    let least = least.fold(most, f64::min);
    let is_logarithmic = most / least > 30.0;
    let title = match is_logarithmic {
        true => format!("{title} (logarithmic)"),
        false => title.into(),
    };
    let bold = font(14, &INK, HPos::Left);
    root.draw(&Text::new(title, (left, top + 28), bold))?;
    let share = |value: f64| match is_logarithmic {
        // Keeps the shortest bar visible.
        true => (2.0 * value.max(LEAST) / least).ln() / (2.0 * most / least).ln(),
        false => value / most,
    };
    for (at, (name, cell)) in cells.iter().enumerate() {
        let middle = top + TITLE + ROW * i32::try_from(at)? + ROW / 2;
        let end = left + FROM + (share(cell.value) * f64::from(TO - FROM)) as i32;
        let (fill, ink) = match is_ours(name) {
            true => (OURS, &OURS),
            false => (OTHERS, &INK),
        };
        let bar = [
            (left + FROM, middle - 6),
            (end.max(left + FROM + 1), middle + 6),
        ];
        root.draw(&Rectangle::new(bar, fill.filled()))?;
        let short = name.split(" (").next().unwrap_or(name).to_owned();
        let right = font(12, ink, HPos::Right);
        root.draw(&Text::new(short, (left + FROM - 8, middle), right))?;
        let value = font(12, ink, HPos::Left);
        root.draw(&Text::new(cell.text.clone(), (end + 5, middle), value))?;
    }
    Ok(())
}

fn font<'a>(size: i32, colour: &'a RGBColor, at: HPos) -> TextStyle<'a> {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(colour);
    style.pos(Pos::new(at, VPos::Center))
}
