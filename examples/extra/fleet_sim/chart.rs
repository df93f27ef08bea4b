//! Draws one simulated hour of each fleet as an SVG.

use std::path::Path;

use plotters::prelude::*;

use super::hour::Hour;
use super::report::Report;
use super::thousands::grouped;

const SIZE: (u32, u32) = (900, 360);
const ALONE: RGBColor = RGBColor(200, 60, 40);
const SHARED: RGBColor = RGBColor(30, 110, 180);

/// Draws two charts side by side: the fetches per hour, and the maximum number of fetches in one
/// second.
pub(crate) fn draw(file: &Path, hours: &[Hour]) -> Result<(), Report> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    panel(
        &left,
        "Fetches per hour (logarithmic axis)",
        hours,
        |hour| hour.fetches,
    )?;
    panel(
        &right,
        "Most fetches in one second (logarithmic axis)",
        hours,
        |hour| hour.peak,
    )?;
    area.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn panel(
    area: &Area<'_>,
    title: &str,
    hours: &[Hour],
    value: fn(&Hour) -> u64,
) -> Result<(), Report> {
    let fleets: Vec<usize> = hours
        .iter()
        .filter(|hour| hour.shares)
        .map(|hour| hour.processes)
        .collect();
    let most = hours.iter().map(value).max().unwrap_or(1) as f64 * 4.0;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..fleets.len() as f64, (0.5..most).log_scale())?;
    let name = |at: &f64| {
        let fleet = fleets.get(*at as usize).filter(|_| at.fract() == 0.5);
        fleet
            .map(|fleet| grouped(*fleet as u64))
            .unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(2 * fleets.len() + 1)
        .x_label_formatter(&name)
        .x_desc("processes")
        .y_label_formatter(&|value| grouped(value.round() as u64))
        .draw()?;
    for (shares, color, label) in [
        (false, ALONE, "each process alone"),
        (true, SHARED, "with a shared store"),
    ] {
        let bars = fleets.iter().enumerate().filter_map(|(at, fleet)| {
            let hour = hours
                .iter()
                .find(|hour| hour.processes == *fleet && hour.shares == shares)?;
            let from = at as f64 + if shares { 0.52 } else { 0.18 };
            Some((from, value(hour)))
        });
        let bars: Vec<(f64, u64)> = bars.collect();
        chart
            .draw_series(bars.iter().map(|(from, value)| {
                Rectangle::new([(*from, 0.5), (from + 0.3, *value as f64)], color.filled())
            }))?
            .label(label)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
        chart.draw_series(bars.iter().map(|(from, value)| {
            Text::new(
                grouped(*value),
                (from + 0.02, *value as f64 * 2.0),
                ("sans-serif", 12),
            )
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}
