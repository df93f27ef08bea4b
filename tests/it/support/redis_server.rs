//! A Redis server for one test: the real `redis-server`, on loopback, killed at the end of the
//! test.

use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, FromRedisValue, RedisResult};
use rustix::process::Pid;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::free_port::free_port;

pub(crate) struct RedisServer {
    port: u16,
    process: Option<Child>,
    /// The working directory. Persistence is off, so Redis writes nothing there.
    folder: TempDir,
    /// Additional command-line arguments.
    arguments: Vec<String>,
}

/// The longest time that a test waits for Redis. Nothing here takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

impl RedisServer {
    /// Starts a server and waits until it responds.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let mut server = Self::stopped(arguments);
        server.run().await;
        server
    }

    /// Reserves a port for a server that is not yet started.
    pub(crate) fn stopped(arguments: &[&str]) -> Self {
        Self {
            port: free_port(),
            process: None,
            folder: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
        }
    }

    /// Starts the server and waits until it responds.
    pub(crate) async fn run(&mut self) {
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args([
                "--save",
                "",
                "--appendonly",
                "no",
                "--daemonize",
                "no",
                "--dir",
            ])
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = process.unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!(
                "no redis-server: `bash tests/run.sh` installs it, as `apt-get install redis-server` does"
            ),
            _ => panic!("redis-server can't be started: {error}"),
        });
        self.process = Some(process);
        eventually(async || {
            let process = self.process.as_mut().unwrap();
            assert_eq!(
                process.try_wait().unwrap(),
                None,
                "it ended: does it know all that it was started with?"
            );
            // An error that isn't an I/O error is a response too: the server may require a
            // password.
            match self.ask::<String>(&["PING"]).await {
                Ok(_) => true,
                Err(error) => !error.is_io_error(),
            }
        })
        .await;
    }

    /// Kills the process, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.process.as_ref().unwrap())
    }

    pub(crate) fn url(&self) -> String {
        self.url_with("")
    }

    /// Returns the URL with `user:password@` before the host.
    pub(crate) fn url_with(&self, credentials: &str) -> String {
        format!("redis://{credentials}127.0.0.1:{}", self.port)
    }

    /// Sends a command and returns the reply.
    pub(crate) async fn ask<T>(&self, command: &[&str]) -> RedisResult<T>
    where
        T: FromRedisValue,
    {
        let client = Client::open(self.url())?;
        let mut connection: MultiplexedConnection =
            client.get_multiplexed_async_connection().await?;
        let (name, arguments) = command.split_first().unwrap();
        redis::cmd(name)
            .arg(arguments)
            .query_async(&mut connection)
            .await
    }

    /// Sends a command that must succeed.
    pub(crate) async fn tell(&self, command: &[&str]) {
        let _: redis::Value = self.ask(command).await.unwrap();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Repeats the check until it is true.
pub(crate) async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "it never came");
        sleep(Duration::from_millis(2)).await;
    }
}
