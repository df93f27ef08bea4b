//! What a run can be told on the command line.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
Usage: cargo run --release -p tower-auth-examples --example chaos -- [options]

  --seconds N   how long it runs, 10 to 300; default 60
  --callers N   how many send requests, 1 to 20000; default 2000
  --seed N      of all that is drawn at random; default 1
  --svg PATH    where to draw the timeline; default nowhere";

pub(crate) struct Options {
    pub(crate) seconds: u64,
    pub(crate) callers: u64,
    pub(crate) seed: u64,
    pub(crate) svg: Option<PathBuf>,
}

impl Options {
    /// `None` if help was asked for.
    pub(crate) fn from_args() -> Result<Option<Self>, String> {
        let mut options = Self {
            seconds: 60,
            callers: 2000,
            seed: 1,
            svg: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            if matches!(name.as_str(), "--help" | "-h") {
                return Ok(None);
            }
            let value = args.next();
            let number = |least: u64, most: u64| {
                let given = value.as_deref().unwrap_or("nothing");
                match given.parse() {
                    Ok(number) if (least..=most).contains(&number) => Ok(number),
                    _ => Err(format!(
                        "`{name}` wants a whole number from {least} to {most}, not {given}"
                    )),
                }
            };
            match name.as_str() {
                // Shorter, and a fault would be over before a token is; longer, and the requests,
                // all of which are kept to be judged, would take gigabytes.
                "--seconds" => options.seconds = number(10, 300)?,
                "--callers" => options.callers = number(1, 20_000)?,
                "--seed" => options.seed = number(0, u64::MAX)?,
                "--svg" => {
                    options.svg = Some(value.ok_or("`--svg` wants a path")?.into());
                }
                _ => return Err(format!("there is no option `{name}`\n\n{USAGE}")),
            }
        }
        Ok(Some(options))
    }
}
