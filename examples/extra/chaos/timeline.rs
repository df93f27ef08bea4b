//! Draws a run: four panels over one time axis.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Run;
use crate::phases::Phase;
use crate::report::Report;
use crate::schedule::{Event, Fault};
use crate::thousands::grouped;

const SIZE: (u32, u32) = (900, 480);
/// The horizontal range of the panels. The labels are to the left of this range.
const PANELS_X: Range<i32> = 96..884;
/// The vertical range of each panel.
const REQUESTS_Y: Range<i32> = 44..194;
const CALLS_Y: Range<i32> = 226..314;
const STATE_Y: Range<i32> = 346..374;
const FAULTS_Y: Range<i32> = 396..420;

// The palette of Okabe and Ito, which colour-blind people can distinguish too.
const GREEN: RGBColor = RGBColor(0, 158, 115);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const SKY: RGBColor = RGBColor(86, 180, 233);
const PURPLE: RGBColor = RGBColor(204, 121, 167);
const DARK: RGBColor = RGBColor(51, 51, 51);
const GREY: RGBColor = RGBColor(118, 118, 118);
const PALE: RGBColor = RGBColor(226, 226, 226);
/// The background while the server was faulty.
const SHADE: RGBColor = RGBColor(247, 241, 235);

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Panel<'a> = DrawingArea<SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), Report>;

/// Draws the run to `path`.
pub(crate) fn draw(run: &Run, path: &Path) -> Drawn {
    let canvas = SVGBackend::new(path, SIZE).into_drawing_area();
    canvas.fill(&WHITE)?;
    requests(run, &canvas)?;
    calls(run, &canvas)?;
    state(run, &canvas)?;
    faults(run, &canvas)?;
    events(run, &canvas)?;
    seconds(run, &canvas)?;
    canvas.present()?;
    Ok(())
}

/// Draws how many requests ended in each 100 ms. The answered requests are drawn on top of all
/// requests.
fn requests(run: &Run, canvas: &Canvas<'_>) -> Drawn {
    const BIN: Duration = Duration::from_millis(100);
    let bin_of = |time: Duration| (time.as_secs_f64() / BIN.as_secs_f64()) as usize;
    let mut ended = vec![(0_u32, 0_u32); bin_of(run.schedule.length)];
    for request in &run.requests {
        // A request that ends after the run has no bin.
        if let Some((all, answered)) = ended.get_mut(bin_of(request.end)) {
            *all += 1;
            *answered += u32::from(request.failure.is_none());
        }
    }
    let most = ended.iter().map(|(all, _)| *all).max().unwrap_or(0).max(1);
    let panel = panel(run, canvas, REQUESTS_Y, f64::from(most) * 1.05)?;
    let middle = |bin: usize| (bin as f64 + 0.5) * BIN.as_secs_f64();
    let area = |count: fn(&(u32, u32)) -> u32, colour: RGBColor| {
        let points = ended.iter().enumerate();
        let points = points.map(|(bin, ended)| (middle(bin), f64::from(count(ended))));
        AreaSeries::new(points, 0.0, colour.filled())
    };
    for element in area(|(all, _)| *all, VERMILLION) {
        panel.draw(&element)?;
    }
    for element in area(|(_, answered)| *answered, GREEN) {
        panel.draw(&element)?;
    }
    let step = round_step(most);
    for count in (0..=most).step_by(step as usize) {
        let y = panel.map_coordinate(&(0.0, f64::from(count))).1;
        if count > 0 {
            let line = [(PANELS_X.start, y), (PANELS_X.end, y)];
            canvas.draw(&PathElement::new(line, WHITE.mix(0.5)))?;
        }
        label(canvas, &grouped(u64::from(count)), (PANELS_X.start - 8, y))?;
    }
    let entries = [("answered", GREEN), ("failed", VERMILLION)];
    title(canvas, "Requests per 100 ms", REQUESTS_Y, &entries)
}

/// Returns a round step size, so that the axis has at most four steps.
fn round_step(most: u32) -> u32 {
    let mut step = 1;
    for factor in [2, 5, 10].into_iter().cycle() {
        if most / step <= 4 {
            break;
        }
        step = match factor {
            2 => step * 2,
            5 => step / 2 * 5,
            _ => step * 2,
        };
    }
    step
}

/// The outcomes of a request to the authorization server, one row each.
const OUTCOMES: [(&str, RGBColor); 4] = [
    ("a token", GREEN),
    ("an error", VERMILLION),
    ("no response", PURPLE),
    ("garbage", ORANGE),
];

fn outcome(fault: Option<Fault>) -> usize {
    match fault {
        None => 0,
        Some(Fault::Errors | Fault::Unavailable | Fault::Flood) => 1,
        Some(Fault::Hang | Fault::Reset) => 2,
        Some(Fault::Garbage) => 3,
    }
}

fn calls(run: &Run, canvas: &Canvas<'_>) -> Drawn {
    let panel = panel(run, canvas, CALLS_Y, OUTCOMES.len() as f64)?;
    let row = |nth: usize| OUTCOMES.len() as f64 - nth as f64 - 0.5;
    for (nth, (name, _)) in OUTCOMES.iter().enumerate() {
        let y = panel.map_coordinate(&(0.0, row(nth))).1;
        let line = [(PANELS_X.start, y), (PANELS_X.end, y)];
        canvas.draw(&PathElement::new(line, PALE))?;
        label(canvas, name, (PANELS_X.start - 8, y))?;
    }
    for call in &run.calls {
        let nth = outcome(call.fault);
        let at = (call.at.as_secs_f64(), row(nth));
        panel.draw(&Circle::new(at, 4, OUTCOMES[nth].1.filled()))?;
    }
    let name = "Requests to the authorization server, by outcome";
    title(canvas, name, CALLS_Y, &[])
}

fn colour(phase: Phase) -> RGBColor {
    match phase {
        Phase::Fresh => GREEN,
        Phase::Stale => ORANGE,
        Phase::Fetching => SKY,
        Phase::Failed => VERMILLION,
        Phase::Empty => PALE,
    }
}

fn state(run: &Run, canvas: &Canvas<'_>) -> Drawn {
    let panel = panel(run, canvas, STATE_Y, 1.0)?;
    for spell in &run.phases {
        let (from, until) = (spell.from.as_secs_f64(), spell.until.as_secs_f64());
        let band = [(from, 0.0), (until, 1.0)];
        panel.draw(&Rectangle::new(band, colour(spell.phase).filled()))?;
    }
    let entries = Phase::ALL.map(|phase| (phase.name(), colour(phase)));
    title(canvas, "The token in the cache", STATE_Y, &entries)
}

fn faults(run: &Run, canvas: &Canvas<'_>) -> Drawn {
    let panel = panel(run, canvas, FAULTS_Y, 1.0)?;
    for spell in &run.schedule.spells {
        let Some(fault) = spell.fault else {
            continue;
        };
        let (from, until) = (spell.from.as_secs_f64(), spell.until.as_secs_f64());
        let band = [(from, 0.0), (until, 1.0)];
        panel.draw(&Rectangle::new(band, VERMILLION.mix(0.25).filled()))?;
        let middle = panel.map_coordinate(&((from + until) / 2.0, 0.5));
        text(canvas, fault.name(), middle, HPos::Center, DARK)?;
    }
    label(canvas, "faults", (PANELS_X.start - 8, middle_of(&FAULTS_Y)))
}

/// Draws a line through the panels for each revocation and rotation.
fn events(run: &Run, canvas: &Canvas<'_>) -> Drawn {
    let width = f64::from(PANELS_X.end - PANELS_X.start);
    for (time, event) in run.schedule.events() {
        let share = time.as_secs_f64() / run.schedule.length.as_secs_f64();
        let x = PANELS_X.start + (share * width) as i32;
        for y in [REQUESTS_Y, CALLS_Y, STATE_Y] {
            canvas.draw(&PathElement::new([(x, y.start), (x, y.end)], DARK))?;
        }
        let letter = match event {
            Event::Revocation => "R",
            Event::Rotation => "K",
        };
        text(canvas, letter, (x, STATE_Y.end + 10), HPos::Center, DARK)?;
    }
    Ok(())
}

fn seconds(run: &Run, canvas: &Canvas<'_>) -> Drawn {
    let length = run.schedule.length.as_secs() as i32;
    let width = PANELS_X.end - PANELS_X.start;
    let y = FAULTS_Y.end + 14;
    let step = if length > 120 {
        30
    } else if length > 20 {
        5
    } else {
        1
    };
    for second in (0..=length).step_by(step) {
        let x = PANELS_X.start + width * second / length;
        text(canvas, &second.to_string(), (x, y), HPos::Center, GREY)?;
    }
    label(canvas, "seconds", (PANELS_X.start - 14, y))?;
    let key = "R: the current token is revoked.  K: the keys are rotated.";
    text(canvas, key, (PANELS_X.end, y + 22), HPos::Right, GREY)
}

/// Makes a panel with its own scale, shaded while the server was faulty.
fn panel<'a>(run: &Run, canvas: &Canvas<'a>, y: Range<i32>, top: f64) -> Result<Panel<'a>, Report> {
    let length = run.schedule.length.as_secs_f64();
    // The panel's y axis goes up, but the canvas counts y from the top.
    let scale = Cartesian2d::new(0.0..length, 0.0..top, (PANELS_X, y.end..y.start));
    let panel = canvas.clone().apply_coord_spec(scale);
    for spell in run.schedule.spells.iter().filter(|it| it.fault.is_some()) {
        let (from, until) = (spell.from.as_secs_f64(), spell.until.as_secs_f64());
        let band = [(from, 0.0), (until, top)];
        panel.draw(&Rectangle::new(band, SHADE.filled()))?;
    }
    Ok(panel)
}

/// Draws a panel's title on the left, and the legend of its colours on the right.
fn title(
    canvas: &Canvas<'_>,
    name: &str,
    panel: Range<i32>,
    entries: &[(&str, RGBColor)],
) -> Drawn {
    /// The approximate width of a letter. The exact width depends on the viewer's font.
    const LETTER: i32 = 7;
    let y = panel.start - 14;
    text(canvas, name, (PANELS_X.start, y), HPos::Left, DARK)?;
    let mut x = PANELS_X.end;
    for (name, colour) in entries.iter().rev() {
        x -= name.len() as i32 * LETTER;
        text(canvas, name, (x, y), HPos::Left, DARK)?;
        x -= 16;
        let swatch = [(x, y - 5), (x + 11, y + 6)];
        canvas.draw(&Rectangle::new(swatch, colour.filled()))?;
        x -= 14;
    }
    Ok(())
}

/// Draws a label to the left of a panel.
fn label(canvas: &Canvas<'_>, name: &str, at: (i32, i32)) -> Drawn {
    text(canvas, name, at, HPos::Right, GREY)
}

fn text(
    canvas: &Canvas<'_>,
    text: &str,
    at: (i32, i32),
    horizontally: HPos,
    colour: RGBColor,
) -> Drawn {
    let style = TextStyle::from(("sans-serif", 13).into_font())
        .color(&colour)
        .pos(Pos::new(horizontally, VPos::Center));
    canvas.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

fn middle_of(range: &Range<i32>) -> i32 {
    i32::midpoint(range.start, range.end)
}
