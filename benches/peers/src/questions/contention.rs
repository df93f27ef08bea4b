//! Measures a request with a cached token, on two parallel threads that share the credential.

use super::hot_path::side_by_side;
use super::{Effort, figure};
use crate::report::{Column, Part};

pub fn ask(effort: Effort) -> Vec<Column> {
    let cell = |(name, time)| (name, figure(time, " ns"));
    let times = side_by_side(2, effort.of(300, 10));
    vec![Column {
        part: Part::Cached,
        head: "2 threads".into(),
        cells: times.into_iter().map(cell).collect(),
    }]
}
