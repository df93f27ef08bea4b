//! A process that a test can kill: this test binary again, running one test.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const PLACE: &str = "TOWER_AUTH_TEST_PLACE";

pub(crate) struct ChildProcess {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl ChildProcess {
    /// Runs one test of a module and passes it a path. `room` is the `module_path!` of that module.
    pub(crate) fn start(room: &str, test: &str, place: &Path) -> Self {
        Self::start_as(None, room, test, place)
    }

    /// Runs the test as another user. Only root can do so.
    pub(crate) fn start_as(user: Option<u32>, room: &str, test: &str, place: &Path) -> Self {
        let (_, room) = room.split_once("::").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        #[cfg(unix)]
        if let Some(user) = user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
        }
        #[cfg(not(unix))]
        let _ = user;
        let mut child = command
            .args(["--exact", &format!("{room}::{test}"), "--nocapture"])
            .env(PLACE, place)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Returns the lines that the process prints. After its death the remaining output is still
    /// readable.
    pub(crate) fn lines(&mut self) -> impl Iterator<Item = String> {
        self.lines.by_ref().map_while(Result::ok)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Kills the process, so that it never outlives its test, even if the test panics.
impl Drop for ChildProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the path that [`ChildProcess::start`] passed. It is `None` in an ordinary test run.
pub(crate) fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}
