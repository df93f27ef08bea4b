//! Identities that a platform gives.

use std::fs;

use tower_auth::platform::{Command, CommandFormat};
use tower_auth::{Reason, TokenSource};

use crate::planted::text;
use crate::watched::watched;

#[test]
fn what_a_program_prints_is_left_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let plain = write("plain", text("printed").as_bytes());
    let json = write(
        "json",
        format!(r#"{{"token":"{}"}}"#, text("json")).as_bytes(),
    );
    let binary = write("binary", &[text("binary").as_bytes(), b"\xff"].concat());
    let long = write("long", text("long").repeat(5_000).as_bytes());
    for path in [&plain, &json, &binary, &long] {
        let fails = format!("cat {0}; cat {0} >&2; exit 1", path.display());
        for format in [
            CommandFormat::text(),
            CommandFormat::json("/token").unwrap(),
        ] {
            watched(async || {
                // A program needs real time.
                tokio::time::resume();
                let works = Command::new("cat").arg(path).format(format.clone());
                let fails = Command::new("sh")
                    .args(["-c", &fails])
                    .format(format.clone());
                for command in [works, fails] {
                    match command.fetch(Reason::First).await {
                        Ok(token) => drop(token),
                        Err(error) => drop(format!("{error} {error:?}")),
                    }
                }
            });
        }
    }
}
