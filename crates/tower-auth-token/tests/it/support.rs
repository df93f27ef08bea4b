//! Runs the program with its own home folder and environment.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tower_auth_test::{AuthorizationServer, Loopback};

pub(crate) const ID: &str = "my-client";

/// The secret of the client. No output may contain its first word.
pub(crate) const SECRET: &str = "planted-secret/+&: %ü";
const PLANTED: &str = "planted";

/// The time limit of a run, with a reserve for a busy machine.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// A server that knows the client, and a user's home folder.
pub(crate) struct World {
    pub(crate) server: AuthorizationServer,
    running: Loopback,
    pub(crate) home: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let server = AuthorizationServer::new();
        server.add_client(ID, SECRET);
        let running = server.serve().await.unwrap();
        let home = TempDir::new().unwrap();
        Self {
            server,
            running,
            home,
        }
    }

    pub(crate) fn token_url(&self) -> String {
        self.running.url("/oauth/token")
    }

    /// Returns the program, with all required settings in its environment.
    pub(crate) fn program(&self) -> Program {
        self.bare()
            .env("TOKEN_URL", self.token_url())
            .env("CLIENT_ID", ID)
            .env("CLIENT_SECRET", SECRET)
    }

    /// Returns the program without settings.
    pub(crate) fn bare(&self) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tower-auth-token"));
        command.env_clear().env("HOME", self.home.path());
        command.current_dir(self.home.path());
        Program { command }
    }

    /// Returns the program's folder in the user's cache folder.
    pub(crate) fn store(&self) -> PathBuf {
        self.home.path().join(".cache/tower-auth-token")
    }

    /// Writes a file into the home folder, and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

pub(crate) struct Program {
    command: Command,
}

impl Program {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn args<A>(mut self, args: impl IntoIterator<Item = A>) -> Self
    where
        A: AsRef<OsStr>,
    {
        self.command.args(args);
        self
    }

    /// Runs the program in another folder.
    pub(crate) fn current_dir(mut self, folder: &str) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Returns a program that runs this script in a shell. `$0` in the script is the path of the
    /// program.
    pub(crate) fn in_a_shell(self, script: &str) -> Self {
        let program = self.command.into_std();
        let mut command = Command::new("/bin/sh");
        command.env_clear().args(["-c", script]);
        command.arg(program.get_program());
        for (name, value) in program.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        Self { command }
    }

    /// Makes the program write its output into a file.
    pub(crate) fn stdout(mut self, file: fs::File) -> RunsInto {
        self.command.stdout(file);
        RunsInto { program: self }
    }

    /// Runs the program to its end.
    pub(crate) async fn run(mut self) -> Run {
        self.command.stdout(Stdio::piped());
        run(self).await
    }

    /// Runs the program to its end, and asserts that it succeeded. Returns its output.
    pub(crate) async fn prints(self) -> String {
        let run = self.run().await;
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        run.stdout
    }
}

/// A program whose output goes into a file.
pub(crate) struct RunsInto {
    program: Program,
}

impl RunsInto {
    pub(crate) async fn run(self) -> Run {
        run(self.program).await
    }
}

async fn run(mut program: Program) -> Run {
    program.command.stdin(Stdio::null()).stderr(Stdio::piped());
    let child = program.command.kill_on_drop(true).spawn().unwrap();
    let output = tokio::time::timeout(LONG_ENOUGH, child.wait_with_output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("it took too long").unwrap();
    let run = Run {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    };
    assert!(!run.stdout.contains(PLANTED), "{run:?}");
    assert!(!run.stderr.contains(PLANTED), "{run:?}");
    let mut after = run.stderr.split("token-").skip(1);
    let is_token = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
    assert!(!after.any(is_token), "{run:?}");
    run
}

/// The result of a run. No result contains the client's secret, and stderr contains no token.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Asserts that the program failed with this code, printed nothing on stdout, and said this.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, said: &str) {
        assert_eq!(
            (self.code, self.stdout.as_str()),
            (Some(code), ""),
            "{self:?}"
        );
        assert!(self.stderr.contains(said), "not said: {said}: {self:?}");
    }

    /// Asserts that the program printed this token, after a warning that contains these words.
    #[track_caller]
    pub(crate) fn warns(&self, said: &str, token: &str) {
        assert_eq!(
            (self.code, self.stdout.trim_end()),
            (Some(0), token),
            "{self:?}"
        );
        let is_warning = self.stderr.starts_with("tower-auth-token: warning: ");
        assert!(
            is_warning && self.stderr.contains(said),
            "not said: {said}: {self:?}"
        );
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
    }
}

/// Returns all files of a folder and the folders in it.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}
