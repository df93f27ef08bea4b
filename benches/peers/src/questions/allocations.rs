//! Measures heap use: what a cached token adds to a request without a credential, and what each of
//! 10,000 tasks takes that wait for a token.
//!
//! `src/bin/allocations.rs` counts in a separate process, because the counting allocator makes each
//! allocation slower.

use std::process::Command;

use super::{Effort, figure};
use crate::contenders::{Contender, Visitor, all};
use crate::report::{Column, Part};

/// The line that `src/bin/allocations.rs` prints for a contender, with tabs between the values.
pub struct Counted {
    pub name: String,
    pub allocations: f64,
    pub bytes: f64,
    pub bytes_waiting: Option<f64>,
}

impl Counted {
    pub fn to_line(&self) -> String {
        let waiting = self.bytes_waiting.map(|bytes| bytes.to_string());
        let waiting = waiting.unwrap_or_default();
        format!(
            "{}\t{}\t{}\t{waiting}",
            self.name, self.allocations, self.bytes
        )
    }

    fn from_line(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        Some(Self {
            name: fields.next()?.into(),
            allocations: fields.next()?.parse().ok()?,
            bytes: fields.next()?.parse().ok()?,
            bytes_waiting: fields.next()?.parse().ok(),
        })
    }
}

pub fn ask(_: Effort) -> Vec<Column> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--quiet", "--manifest-path", manifest]);
    let output = command
        .args(["--bin", "allocations"])
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text");
    let counted: Vec<_> = text.lines().filter_map(Counted::from_line).collect();

    let mut names = Names(Vec::new());
    all(&mut names);
    let cells = |cell: &dyn Fn(&Counted) -> Option<String>| {
        let of = |name: &str| {
            counted
                .iter()
                .find(|counted| counted.name == name)
                .and_then(cell)
        };
        names
            .0
            .iter()
            .filter_map(|name| Some((*name, of(name)?)))
            .collect()
    };
    vec![
        Column {
            part: Part::Cost,
            head: "allocations".into(),
            cells: cells(&|of| {
                // A count that rounds to 0 is Tokio's occasional work: one allocation in hundreds
                // of requests.
                let text = match of.allocations.round() {
                    0.0 => "0".into(),
                    count => format!("{}, {}", figure(count, ""), figure(of.bytes, " B")),
                };
                Some(text)
            }),
        },
        Column {
            part: Part::Empty,
            head: "heap per caller".into(),
            cells: cells(&|of| {
                let bytes = of.bytes_waiting?;
                Some(figure(bytes, " B"))
            }),
        },
    ]
}

struct Names(Vec<&'static str>);

impl Visitor for Names {
    fn visit<C: Contender>(&mut self) {
        self.0.push(C::NAME);
    }
}
