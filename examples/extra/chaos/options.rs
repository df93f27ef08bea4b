//! The command-line options.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
Usage: cargo run --release -p tower-auth-examples --example chaos -- [options]

  --seconds N   how long it runs, 10 to 300; default 60
  --callers N   how many callers send requests, 1 to 20000; default 2000
  --seed N      the seed of all random numbers; default 1
  --svg PATH    the file for the timeline; default none";

pub(crate) struct Options {
    pub(crate) seconds: u64,
    pub(crate) callers: u64,
    pub(crate) seed: u64,
    pub(crate) svg: Option<PathBuf>,
}

impl Options {
    /// Reads the options. Returns `None` if the user asked for help.
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
                        "`{name}` needs a whole number from {least} to {most}, not {given}"
                    )),
                }
            };
            match name.as_str() {
                // In a shorter run, a fault would end before a token expires. In a longer run, the
                // records of all requests would take gigabytes.
                "--seconds" => options.seconds = number(10, 300)?,
                "--callers" => options.callers = number(1, 20_000)?,
                "--seed" => options.seed = number(0, u64::MAX)?,
                "--svg" => {
                    options.svg = Some(value.ok_or("`--svg` needs a path")?.into());
                }
                _ => return Err(format!("there is no option `{name}`\n\n{USAGE}")),
            }
        }
        Ok(Some(options))
    }
}
