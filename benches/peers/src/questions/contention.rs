//! Measures a request with a cached token, on two parallel threads that share the credential.

use super::hot_path::side_by_side;
use super::{Effort, figure};
use crate::report::{Cell, Column, Part};

pub fn ask(effort: Effort) -> Vec<Column> {
    let cell = |(name, time)| (name, Cell::new(figure(time, " ns"), time));
    let times = side_by_side(2, effort.of(300, 10));
    vec![Column {
        part: Part::InHand,
        head: "2 threads".into(),
        bars: Some("The same on two threads"),
        cells: times.into_iter().map(cell).collect(),
    }]
}
