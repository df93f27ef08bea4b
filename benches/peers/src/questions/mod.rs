//! The questions, one file each. Each answer is a few columns of a table.

use std::fmt::Display;

use tokio::runtime::{Builder, Runtime};

use crate::report::Column;

pub mod allocations;
mod cold_burst;
mod contention;
mod expiry;
mod failing;
mod hot_path;
mod real_client;

/// How much work an answer may take.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Whether the run only checks that everything works.
    pub quick: bool,
}

impl Effort {
    /// Returns the first value, or the second value if the run is quick.
    fn of<T>(self, thorough: T, quick: T) -> T {
        match self.quick {
            true => quick,
            false => thorough,
        }
    }
}

pub struct Question {
    pub name: &'static str,
    pub ask: fn(Effort) -> Vec<Column>,
}

/// The questions, in the order of the columns.
pub const ALL: [Question; 7] = [
    Question {
        name: "hot-path",
        ask: hot_path::ask,
    },
    Question {
        name: "contention",
        ask: contention::ask,
    },
    Question {
        name: "allocations",
        ask: allocations::ask,
    },
    Question {
        name: "real-client",
        ask: real_client::ask,
    },
    Question {
        name: "cold-burst",
        ask: cold_burst::ask,
    },
    Question {
        name: "failing",
        ask: failing::ask,
    },
    Question {
        name: "expiry",
        ask: expiry::ask,
    },
];

/// Makes a runtime with this many worker threads.
fn runtime(threads: usize) -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Formats a figure with its significant digits, and separates thousands.
pub fn figure(value: f64, unit: impl Display) -> String {
    let digits = match value.abs() {
        v if v == v.round() || v >= 9.95 => 0,
        v if v < 0.995 => 2,
        _ => 1,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped}{rest}{unit}")
}

/// Formats milliseconds, or microseconds if the value is below 1 ms.
pub fn milliseconds(value: f64) -> String {
    match value < 0.9995 {
        true => figure((value * 1e3).max(1.0), " µs"),
        false => figure(value, " ms"),
    }
}
